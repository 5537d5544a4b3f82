"""The three heads over one pass, judged on pictures in the folders that `write_folders` makes.

Every figure keeps what each picture adds to it, so that intervals come from drawing pictures again. Beside each stands
what needs no picture at all: at each place the class that is most frequent there in training, and the median depth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.data.coco import read_coco, read_image
from midsight.data.depth import DepthFiles
from midsight.data.pairs import folder_pairs
from midsight.evaluate.coco import coco_interval, coco_metrics
from midsight.evaluate.metrics import Confusion
from midsight.evaluate.scene_probes import Answer, mean_iou
from midsight.images.labels import read_numbers
from midsight.tasks.detection.formats import to_coco
from midsight.tasks.perceive import Perceived, Perceiver

Map = npt.NDArray[Any]
Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """What is known without looking: a class and a depth for each place."""

    classes: npt.NDArray[np.uint8]  # (S, S)
    metres: npt.NDArray[np.float32]  # (S, S)


@dataclass(frozen=True)
class HeadFigures:
    """What came out on one set of pictures."""

    pictures: int
    segmentation: Answer  # mIoU, percent
    segmentation_prior: Answer
    depth: Answer  # RMSE, metres
    depth_prior: Answer
    within: Answer  # share of pixels within a factor of 1.25, percent
    within_prior: Answer
    average_precision: dict[str, tuple[float, float, float]]  # box AP50, mask AP50: percent with its interval
    precision: dict[str, float]  # box AP, mask AP: percent
    iou: dict[str, float]  # of each class that is there, percent


def prior(root: Path, classes: int, farthest: float, every: int = 4) -> Prior:
    """Of the training part of folders.

    Args:
        every: of so many pictures one is looked at.
    """
    masks = [read_numbers(p.target) for p in folder_pairs(root / "images/training", root / "masks/training")[::every]]
    counts = np.zeros((classes, *masks[0].shape), np.int32)
    for mask in masks:
        for k in np.unique(mask):
            counts[k] += mask == k
    pairs = folder_pairs(root / "images/training", root / "depth/training")[::every]
    depths = np.stack([_metres(read_numbers(pair.target), farthest) for pair in pairs])
    depths[depths == 0] = np.nan
    with np.errstate(all="ignore"):
        middle = np.nan_to_num(np.nanmedian(depths, axis=0), nan=farthest)
    return Prior(counts.argmax(axis=0).astype(np.uint8), middle.astype(np.float32))


def measure_heads(
    perceiver: Perceiver,
    root: Path,
    split: str,
    classes: tuple[str, ...],
    known: Prior,
    farthest: float,
    progress: Callable[[int], None] = lambda _: None,
) -> HeadFigures:
    """All three heads on one split of folders.

    Args:
        classes: of the label maps.
        farthest: metres; what is farther is not asked for.
        progress: called with the number of pictures done.

    Raises:
        InputError, MediaError: folders or files that are not as `write_folders` makes them.
    """
    root = root.resolve()  # as the paths in `data`
    data = read_coco(root / f"{split}.json", root)
    rows: dict[str, list[Figures]] = {name: [] for name in ("seg", "seg prior", "depth", "depth prior")}
    results: list[dict[str, Any]] = []
    for number, picture in enumerate(data.images, start=1):
        found = perceiver([read_image(picture)])[0]
        results += to_coco(found.detections, picture.id, data.category_ids)
        name = picture.path.relative_to(root / "images").with_suffix(".png")
        truth, metres = read_numbers(root / "masks" / name), _metres(read_numbers(root / "depth" / name), farthest)
        guessed = Perceived({}, known.classes.astype(np.uint16), known.metres)
        for suffix, one in (("", found), (" prior", guessed)):
            rows["seg" + suffix].append(_confusion(one.classes, truth, len(classes)))
            rows["depth" + suffix].append(_errors(one.metres, metres, farthest))
        progress(number)
    table = {name: np.stack(values) for name, values in rows.items()}
    kinds: tuple[tuple[str, Any], ...] = (("box", "bbox"), ("mask", "segm"))
    spread = {f"{n} AP50": _percent(coco_interval(data.source, results, kind, "AP50")) for n, kind in kinds}
    plain = {f"{name} AP": 100 * coco_metrics(data.source, results, kind)["AP"] for name, kind in kinds}
    return HeadFigures(
        len(data.images),
        Answer(table["seg"], mean_iou), Answer(table["seg prior"], mean_iou),
        Answer(table["depth"], _rmse), Answer(table["depth prior"], _rmse),
        Answer(table["depth"], _within), Answer(table["depth prior"], _within),
        spread, plain, _iou_by_class(table["seg"].sum(0), classes),
    )  # fmt: skip


def _metres(numbers: Map, farthest: float) -> npt.NDArray[np.float32]:
    """Depth as it is stored, 0 where it is unknown or too far."""
    metres = (numbers / DepthFiles().scale).astype(np.float32)
    metres[metres > farthest] = 0
    return metres


def _confusion(found: Map, truth: Map, classes: int) -> Figures:
    counted = Confusion(classes)
    counted.add(found, truth)
    return counted.matrix.astype(np.float64)


def _errors(found: Map, truth: Map, farthest: float) -> Figures:
    """Sum of squared errors, pixels within a factor of 1.25, pixels."""
    there = truth > 0
    p, t = found[there].clip(1e-3, farthest).astype(np.float64), truth[there].astype(np.float64)
    near = np.maximum(p / t, t / p) < 1.25
    return np.array([((p - t) ** 2).sum(), near.sum(), len(t)], np.float64)


def _rmse(rows: Figures) -> float:
    return float(np.sqrt(rows[:, 0].sum() / max(rows[:, 2].sum(), 1.0)))


def _within(rows: Figures) -> float:
    return 100 * float(rows[:, 1].sum() / max(rows[:, 2].sum(), 1.0))


def _percent(values: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = (100 * x for x in values)
    return value, low, high


def _iou_by_class(table: Figures, classes: tuple[str, ...]) -> dict[str, float]:
    hits, there = np.diag(table), table.sum(1)
    union = table.sum(0) + there - hits
    return {name: 100 * float(hits[k] / union[k]) for k, name in enumerate(classes) if there[k] > 0}
