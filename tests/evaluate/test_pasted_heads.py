"""The judge of heads on photographs: answers that are known give figures that are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.data.composites import Composite
from midsight.data.packaged import Everyday
from midsight.data.regions import Region
from midsight.data.scenes.folders import CLASSES, SURROUNDINGS
from midsight.data.scenes.truth import boxes_xyxy
from midsight.errors import InputError
from midsight.evaluate import pasted_heads as judge
from midsight.tasks.perceive import Perceived

GROUPS = {"owl": "animal", "mug": "dish"}
ANIMAL, DISH = CLASSES.index("animal"), CLASSES.index("dish")
SIDE = 64


def composite(number: int, places: tuple[tuple[str, int, int], ...]) -> Composite:
    """Squares of 20 pixels, each with a name, left and top; pixels tell composites apart."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    for k, (_, left, top) in enumerate(places, start=1):
        ids[top : top + 20, left : left + 20] = k
    pixels = np.full((SIDE, SIDE, 3), number, np.uint8)
    return Composite(pixels, ids, tuple(name for name, *_ in places))


PICTURES = [
    composite(0, (("owl", 2, 2), ("violin", 40, 40))),
    composite(1, (("mug", 2, 2),)),
    composite(2, (("owl", 30, 2), ("mug", 2, 40))),
]


class Knowing:
    """Answers with the truth; in pictures of `wrong`, boxes and classes lie elsewhere."""

    def __init__(self, wrong: tuple[int, ...] = (), named: bool = True) -> None:
        self.wrong, self.named = wrong, named

    def __call__(self, images: list[Any]) -> list[Perceived]:
        number = int(images[0][0, 0, 0])
        one = PICTURES[number]
        kinds = [CLASSES.index(GROUPS.get(name, "object") if self.named else "toy") for name in one.names]
        classes = np.array([1, *kinds], np.uint16)[one.ids]  # what is behind is ground
        boxes = torch.from_numpy(boxes_xyxy(one.ids, len(one.names)))
        if number in self.wrong:
            classes, boxes = np.zeros_like(classes), boxes + 15
        labels = torch.tensor([kind - len(SURROUNDINGS) for kind in kinds])
        found = {"boxes": boxes, "scores": torch.linspace(0.9, 0.5, len(labels)), "labels": labels}
        return [Perceived(found, classes, np.ones(classes.shape, np.float32))]


def figures(heads: Knowing, known: judge.Blind | None = None) -> dict[str, judge.Row]:
    fitted = known or judge.blind(PICTURES, GROUPS)
    rows = judge.measure_pasted(heads, PICTURES, fitted, GROUPS)  # type: ignore[arg-type]
    assert [row.title for row in rows] == list(judge.QUESTIONS)
    return {row.title: row for row in rows}


def test_the_truth_scores_full() -> None:
    found = figures(Knowing())
    one, five, ten, grouped, iou, thing, behind, group = (found[title] for title in judge.QUESTIONS)
    assert one.heads.value == pytest.approx(60)  # three of the five things can have the only box
    assert one.count == five.count == 5
    assert grouped.count == 4  # the violin is of no group
    assert (iou.count, iou.unit) == (3, "pictures")
    for row in (five, ten, grouped, iou, thing, behind, group):
        assert (row.heads.value, row.heads.low, row.heads.high) == pytest.approx((100, 100, 100))
    assert ten.prior.value == pytest.approx(100)  # its boxes were fitted to these five things
    for row in (one, grouped, iou, group):
        assert row.prior.value < 70


def test_names_and_places_count_apart() -> None:
    found = figures(Knowing(named=False))
    five, grouped, iou, group = (found[judge.QUESTIONS[k]] for k in (1, 3, 4, 7))
    assert (five.heads.value, grouped.heads.value) == pytest.approx((100, 0))
    assert (iou.heads.value, group.heads.value) == pytest.approx((100, 0))


def test_wrong_pictures_cost_and_widen() -> None:
    found = figures(Knowing(wrong=(1,)))
    five, _, _, iou, thing, behind, _ = (found[title] for title in judge.QUESTIONS[1:])
    assert five.heads.value == pytest.approx(80)
    assert five.heads.low < 80 < five.heads.high
    assert iou.heads.value == thing.heads.value == pytest.approx(80)
    assert behind.heads.value == pytest.approx(100)


def test_the_blind_answer_fits_what_it_was_made_of() -> None:
    alike = [composite(k, (("owl", 2, 2),)) for k in range(3)] + [composite(3, (("mug", 40, 40),))]
    known = judge.blind(alike, GROUPS)
    assert known.group == ANIMAL
    np.testing.assert_array_equal(known.boxes[:2], [[2, 2, 22, 22], [40, 40, 60, 60]])
    np.testing.assert_array_equal(known.things, alike[0].ids > 0)
    row = figures(Knowing(), known)
    one, grouped, iou = (row[judge.QUESTIONS[k]] for k in (0, 3, 4))
    assert one.prior.value == pytest.approx(40)  # the first owl and the mug of the second picture
    assert grouped.prior.value == pytest.approx(25)  # and of that mug it says animal
    union = 5 * 400 + 400  # the third picture has nothing there
    assert iou.prior.value == pytest.approx(100 * 800 / union)


def test_nothing_of_a_group_is_told() -> None:
    for pictures in ([], [composite(0, (("violin", 2, 2),))]):
        with pytest.raises(InputError, match=f"none of {len(pictures)} composites shows a thing of a group"):
            judge.blind(pictures, GROUPS)


def test_of_boxes_that_overlap_the_surest_is_kept() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40]])
    found = {"boxes": boxes, "scores": torch.tensor([0.2, 0.9, 0.5]), "labels": torch.tensor([4, 5, 6])}
    kept, labels = judge.best_boxes(found, 10)
    np.testing.assert_array_equal(kept, [[1, 0, 11, 10], [30, 30, 40, 40]])
    assert labels.tolist() == [5, 6]
    assert len(judge.best_boxes(found, 1)[0]) == 1
    assert len(judge.best_boxes({name: value[:0] for name, value in found.items()}, 5)[0]) == 0


def test_what_regions_are_called(tmp_path: Path) -> None:
    classes = np.zeros((10, 20), np.uint16)  # wall on the left, sky in the right half, a lamp in its corner
    classes[:, 10:] = CLASSES.index("sky")
    classes[5:, 15:] = CLASSES.index("lamp")
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        Image.new("RGB", (20, 10)).save(path)
    regions = [
        Region(paths[0], "sky", (0.5, 0.0, 1.0, 1.0)), Region(paths[1], "sky", (0.0, 0.0, 0.5, 1.0)),
        Region(paths[0], "wall", (0.0, 0.0, 0.5, 0.5)), Region(paths[0], "wall", (0.0, 0.5, 0.5, 1.0)),
    ]  # fmt: skip
    scores = iter(([0.4, 0.2], []))

    def perceive(images: list[Any]) -> list[Perceived]:
        assert images[0].shape == (10, 20, 3)
        return [Perceived({"scores": torch.tensor(next(scores))}, classes, np.ones((10, 20), np.float32))]

    seen = judge.look(perceive, regions)  # type: ignore[arg-type]
    np.testing.assert_allclose(judge.best_scores(seen), [0.4, 0.0])
    sky, wall = judge.called(seen, regions)
    assert (sky.label, sky.regions, sky.photographs) == ("sky", 2, 2)
    assert sky.right.value == pytest.approx(37.5)  # three quarters of one, nothing of the other
    assert (sky.right.low, sky.right.high) == pytest.approx((0, 75))
    assert sky.surroundings == pytest.approx((50, 0, 37.5))
    assert sky.other == "lamp 12"
    assert (wall.regions, wall.photographs, wall.right.value, wall.other) == (2, 1, pytest.approx(100), "")


def test_groups_go_by_the_words_meaning() -> None:
    things = [Everyday(Path("x"), *row, "p") for row in (("owl", "bird"), ("mug", "kitchenware"), ("violin", "m"))]
    things += [Everyday(Path("x"), "bus", "vehicle", "p"), Everyday(Path("x"), "apple", "fruit", "p")]
    assert judge.groups_of(things) == {"owl": "animal", "mug": "dish", "bus": "truck or bus", "apple": "food"}
    assert {*judge._OF_KIND.values(), *judge._OF_NAME.values()} <= set(CLASSES)
