"""The judge of the three heads: answers that are known score full, wrong ones do not."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsight.data.coco import read_coco, read_masks
from midsight.data.scenes.folders import CLASSES, write_folders
from midsight.data.scenes.groups import NAMES
from midsight.evaluate.heads import Prior, measure_heads, prior
from midsight.evaluate.scene_probes import interval
from midsight.images.labels import read_numbers
from midsight.tasks.perceive import Perceived
from tests.train.blocks_world import SIDE, write_blocks

FARTHEST = 10.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    for split, count in (("training", 8), ("test", 6)):
        write_folders(write_blocks(folder / split, count), folder / "dense", split)
    return Path(os.path.relpath(folder / "dense"))


class Knowing:
    """Answers with the truth, the pictures coming in their order; `wrong` of them get an answer that is not."""

    def __init__(self, root: Path, wrong: int = 0) -> None:
        self.root, self.wrong = root.resolve(), wrong
        self.pictures = iter(read_coco(root / "test.json", root).images)

    def __call__(self, images: list[Any]) -> list[Perceived]:
        picture = next(self.pictures)
        name = picture.path.relative_to(self.root / "images").with_suffix(".png")
        classes, metres = read_numbers(self.root / "masks" / name), read_numbers(self.root / "depth" / name) / 1000
        boxes = torch.tensor([thing.box for thing in picture.things])
        masks = torch.from_numpy(read_masks(picture))[:, None]
        if self.wrong > 0:
            self.wrong -= 1
            classes, metres, boxes = classes * 0, metres + 1, boxes + 30
            masks = masks.roll(30, dims=3)
        labels = torch.tensor([thing.label for thing in picture.things])
        found = {"boxes": boxes, "scores": torch.ones(len(labels)) * 0.9, "labels": labels, "masks": masks}
        return [Perceived(found, classes, metres.astype(np.float32))]


def judged(root: Path, wrong: int) -> Any:
    known = Prior(np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 2.0, np.float32))
    return measure_heads(Knowing(root, wrong), root, "test", CLASSES, known, FARTHEST)  # type: ignore[arg-type]


def test_the_truth_scores_full(root: Path) -> None:
    found = judged(root, 0)
    assert found.pictures == 6
    assert found.segmentation.value == pytest.approx(100)
    assert found.depth.value == pytest.approx(0, abs=1e-6)
    assert found.within.value == pytest.approx(100)
    for name in ("box AP", "mask AP"):
        assert found.precision[name] == pytest.approx(100)
    assert found.iou == {"wall": pytest.approx(100), NAMES[-1]: pytest.approx(100)}
    assert found.segmentation_prior.value < 60  # all wall
    assert found.depth_prior.value > 0.1


def test_wrong_answers_cost(root: Path) -> None:
    found = judged(root, 3)
    assert found.segmentation.value < 95
    assert found.depth.value == pytest.approx((3 / 6) ** 0.5, rel=0.01)  # one metre off in half of the pictures
    value, low, high = found.average_precision["box AP50"]
    assert low < value < high
    assert 20 < value < 80
    low, high = interval(found.segmentation, times=200)
    assert low < found.segmentation.value < high


def test_prior(root: Path) -> None:
    known = prior(root, len(CLASSES), FARTHEST, every=1)
    masks = np.stack([read_numbers(path) for path in sorted((root / "masks/training").glob("*.png"))])
    place = np.unravel_index((masks > 0).mean(axis=0).argmax(), masks[0].shape)
    share = (masks[:, place[0], place[1]] > 0).mean()
    assert (known.classes[place] > 0) == (share > 0.5)
    assert known.classes[0, 0] == 0
    assert known.metres[0, 0] == pytest.approx(2.0)
