"""The heads on photographs: on cut-outs pasted on landscapes, whose masks are known, and on regions marked by eye.

Heads that learned rendered scenes are asked what composites (`midsight.data.composites`) can answer: whether a box lies
around each pasted thing, whether its pixels are told from what is behind, and, of things whose name is in one of the
heads' groups, whether that group is found. Beside each figure stands what needs no look at the picture: the few boxes
and the one map that fit other composites best, and their commonest group.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from midsight.data.composites import Composite
from midsight.data.packaged import Everyday
from midsight.data.regions import Region
from midsight.data.scenes.folders import CLASSES, SURROUNDINGS
from midsight.data.scenes.truth import boxes_xyxy
from midsight.errors import InputError
from midsight.evaluate.metrics.bootstrap import bootstrap
from midsight.images import Pixels, load_image
from midsight.tasks.perceive import Perceived, Perceiver

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[Any]
BOXES = (1, 5, 10)  # how many of the best are looked at
LONGEST = 1024
OVERLAP = 0.5  # IoU from which a box is around a thing
_FIRST_THING = len(SURROUNDINGS)
# groups of the heads by kind in `everyday.csv`, and of single names; what has none here is a thing without a group
_OF_KIND = {
    **dict.fromkeys(
        ("amphibian", "bird", "fish", "crustacean", "mollusk", "insect", "reptile", "mammal"), "animal"
    ),
    **dict.fromkeys(("fruit", "nut", "vegetable"), "food"),
    "flower": "plant",
}  # fmt: skip
_OF_NAME = {
    **dict.fromkeys(("tree", "palm tree"), "tree"),
    **dict.fromkeys(("car", "sports car", "racing car"), "car"),
    **dict.fromkeys(
        ("pickup truck", "dump truck", "garbage truck", "fire engine", "bus", "cement mixer"), "truck or bus"
    ),
    "tricycle": "cycle",
    **dict.fromkeys(
        ("scissors", "hammer", "tape measure", "paintbrush", "pliers", "saw", "shovel", "wrench"), "tool"
    ),
    **dict.fromkeys(("glass of water", "mug", "jug", "teapot", "pepper mill", "kettle"), "dish"),
    **dict.fromkeys(("teddy bear", "rubber duck", "basketball", "soccer ball", "tennis racket"), "toy"),
    **dict.fromkeys(("trash can", "mailbox"), "box"),
    "camera": "electronics",
    "toilet": "bathroom fixture",
}  # fmt: skip


QUESTIONS = (
    *(f"things with a box around them, among the best {k}" for k in BOXES),
    f"things with a box of their group around them, among the best {max(BOXES)}",
    "things against what is behind them, IoU",
    "pixels of things that are called a thing",
    "pixels behind them that are called wall, ground or sky",
    "pixels of things of a group that are called that group",
)


@dataclass(frozen=True)
class Share:
    """A figure in percent with its 95 % interval over pictures."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One question to the composites."""

    title: str
    heads: Share
    prior: Share
    count: int
    unit: str  # "things", or "pictures" where pixels are counted


@dataclass(frozen=True)
class Blind:
    """What is answered without a look at the picture, fitted to other composites."""

    boxes: Map  # float32 (K, 4), the first ones together lie around the most things
    things: npt.NDArray[np.bool_]  # (S, S): where a thing is
    group: int  # index into CLASSES of the commonest


@dataclass(frozen=True)
class Called:
    """What the heads call the regions of one label."""

    label: str
    regions: int
    photographs: int
    right: Share
    surroundings: tuple[float, float, float]  # percent that is called wall, ground, sky
    other: str  # the thing that is wrongly called most often, with its percent, or nothing


def groups_of(things: Iterable[Everyday]) -> dict[str, str]:
    """One of `CLASSES` for each name that is in a group of the heads."""
    found = {one.name: _OF_NAME.get(one.name) or _OF_KIND.get(one.kind) for one in things}
    return {name: group for name, group in found.items() if group is not None}


def blind(pictures: Sequence[Composite], groups: Mapping[str, str]) -> Blind:
    """The best answer that looks at nothing, for pictures laid out as these.

    Raises:
        InputError: none of them shows a thing that is in a group.
    """
    groups_there = [CLASSES.index(groups[name]) for one in pictures for name in one.names if name in groups]
    if not groups_there:
        raise InputError(f"none of {len(pictures)} composites shows a thing of a group; ask for more of them")
    each = [boxes_xyxy(one.ids, len(one.names)) for one in pictures]
    often = np.mean([one.ids > 0 for one in pictures], axis=0)
    levels = np.linspace(0, often.max(), 41)[:-1]
    masks = np.stack([one.ids > 0 for one in pictures])

    def iou(level: float) -> float:
        guessed = often > level
        both = (masks & guessed).sum()
        return float(both / (guessed.sum() * len(masks) + masks.sum() - both))

    best = max(levels, key=iou)
    return Blind(_covering(np.concatenate(each), max(BOXES)), often > best, int(np.bincount(groups_there).argmax()))


def measure_pasted(
    perceiver: Perceiver,
    pictures: Sequence[Composite],
    known: Blind,
    groups: Mapping[str, str],
    progress: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """All questions, one row each.

    Args:
        groups: a group of `CLASSES` for each name that is in one.
        progress: called with the number of pictures done.
    """
    found, guessed = [], []
    for number, one in enumerate(pictures, start=1):
        seen = perceiver([one.pixels])[0]
        boxes, labels = best_boxes(seen.detections, max(BOXES))
        found.append(_counts(one, boxes, labels + _FIRST_THING, seen.classes, groups))
        fixed = np.full(known.things.shape, 0)
        fixed[known.things] = known.group
        guessed.append(_counts(one, known.boxes, np.full(len(known.boxes), known.group), fixed, groups))
        progress(number)
    rows = []
    for number, title in enumerate(QUESTIONS):
        heads, prior = np.array(found)[:, number], np.array(guessed)[:, number]  # pictures, 2
        things = title.startswith("things with")
        count, unit = (int(heads[:, 1].sum()), "things") if things else (len(pictures), "pictures")
        rows.append(Row(title, _share(heads), _share(prior), count, unit))
    return rows


def best_boxes(found: Mapping[str, Tensor], count: int) -> tuple[Map, Map]:
    """The best boxes (K, 4) and their labels (K,): of those that overlap by more than half, of any class, the best."""
    from torchvision.ops import nms

    kept = nms(found["boxes"].float(), found["scores"].float(), OVERLAP)[:count]
    return found["boxes"][kept].float().cpu().numpy(), found["labels"][kept].cpu().numpy()


def look(perceiver: Perceiver, regions: Sequence[Region]) -> dict[Path, Perceived]:
    """What is found in each photograph that has regions, at no more than `LONGEST` pixels a side."""
    return {path: perceiver([_fitted(load_image(path))])[0] for path in dict.fromkeys(one.path for one in regions)}


def best_scores(seen: Mapping[Path, Perceived]) -> Floats:
    """The score of the surest box of each photograph, 0 where there is none: (photographs,)."""
    return np.array(
        [float(one.detections["scores"].max()) if len(one.detections["scores"]) else 0 for one in seen.values()]
    )


def called(seen: Mapping[Path, Perceived], regions: Sequence[Region]) -> Iterator[Called]:
    """What the class map calls each label's regions, in the order in which the labels first come.

    Args:
        seen: as `look` gives it.
    """
    shares: dict[str, dict[Path, list[Floats]]] = {}
    for one in regions:
        part = seen[one.path].classes[one.within(seen[one.path].classes.shape)]
        counts = np.bincount(part.ravel(), minlength=len(CLASSES)) / part.size
        shares.setdefault(one.label, {}).setdefault(one.path, []).append(counts)
    for label, by_path in shares.items():
        each = np.array([np.mean(parts, axis=0) for parts in by_path.values()])  # photographs, classes
        right, mean = CLASSES.index(label), 100 * each.mean(0)
        others = [k for k in range(_FIRST_THING, len(CLASSES)) if k != right]
        most = max(others, key=lambda k: float(mean[k]))
        share = _share(np.stack([each[:, right], np.ones(len(each))], axis=1))
        told = f"{CLASSES[most]} {mean[most]:.0f}" if mean[most] >= 1 else ""
        count = sum(len(parts) for parts in by_path.values())
        walls = (float(mean[0]), float(mean[1]), float(mean[2]))
        yield Called(label, count, len(each), share, walls, told)


def _fitted(pixels: Pixels) -> Pixels:
    """The heads look at 448 pixels; maps as large as a wallpaper would take gigabytes and tell nothing more."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST, LONGEST))
    return np.array(image)


def _counts(one: Composite, boxes: Map, labels: Map, classes: Map, groups: Mapping[str, str]) -> Floats:
    """What one picture adds to each question, (questions, 2): hits, and those asked for or the union."""
    own = boxes_xyxy(one.ids, len(one.names))
    seen = own[:, 2] > own[:, 0]
    around = _iou(own, boxes) >= OVERLAP  # things, boxes
    kinds = np.array([CLASSES.index(groups[name]) if name in groups else -1 for name in one.names])
    grouped = seen & (kinds >= 0)
    same = around & (kinds[:, None] == labels[None])
    there, called = one.ids > 0, classes >= _FIRST_THING
    wanted = np.concatenate([[-1], kinds])[one.ids]
    hits = [(around[seen, :k].any(1).sum(), seen.sum()) for k in BOXES]
    hits += [
        (same[grouped].any(1).sum(), grouped.sum()),
        ((there & called).sum(), (there | called).sum()),
        ((there & called).sum(), there.sum()),
        ((~there & ~called).sum(), (~there).sum()),
        (((wanted >= 0) & (classes == wanted)).sum(), (wanted >= 0).sum()),
    ]
    return np.array(hits, np.float64)


def _share(counts: Floats) -> Share:
    """Hits over what was asked for, of all pictures together; counts are (pictures, 2)."""
    value, low, high = bootstrap(counts[None], lambda means: 100 * means[..., 0] / np.maximum(means[..., 1], 1e-12))
    return Share(float(value[0]), float(low[0]), float(high[0]))


def _covering(boxes: Map, count: int) -> Map:
    """Boxes (count, 4) of these (N, 4), each taken because it lies around the most that no earlier one does."""
    around = _iou(boxes, boxes) >= OVERLAP
    left, taken = np.ones(len(boxes), np.bool_), []
    for _ in range(count):
        best = int((around & left[:, None]).sum(0).argmax())
        taken.append(best)
        left &= ~around[:, best]
    return boxes[taken]


def _iou(a: Map, b: Map) -> Map:
    """(A, B) of boxes (A, 4) and (B, 4)."""
    from torchvision.ops import box_iou

    return box_iou(*(torch.from_numpy(np.asarray(x, np.float32).reshape(-1, 4)) for x in (a, b))).numpy()
