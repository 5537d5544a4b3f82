"""Real things on real landscapes, with exact masks: cut-out photographs pasted on photographs. For measuring only.

The things are Tux Paint's stamps with their names from `everyday.csv`, the landscapes are wallpapers that show nothing
with a name of its own. Neither may be trained on, and their licences keep them out of what is shipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.data import packaged
from midsight.images import Pixels

LANDSCAPES = (
    "BytheWater", "ColdRipple", "DarkestHour", "Path", "OneStandsOut", "Volna", "summer_1am", "Blinds", "Dune",
    "GreenMeadow", "Storm", "Wood",
)  # fmt: skip
_STAMPS = "tuxpaint-stamps-default"
_OPAQUE = 127  # alpha above it belongs to the thing


@dataclass(frozen=True)
class CompositeConfig:
    """How things are laid out."""

    size: int = 448  # pixels of a side
    most: int = 4  # things; at least one
    sides: tuple[float, float] = (0.25, 0.55)  # of the longer side of a thing, in the picture's
    overlap: float = 0.15  # of a thing's box, at most, with another's
    smallest: int = 96  # pixels: smaller cut-outs would be blurred
    tries: int = 50


@dataclass(frozen=True)
class Composite:
    """One picture."""

    pixels: Pixels  # uint8 (S, S, 3)
    ids: npt.NDArray[np.uint8]  # (S, S): 0 for the landscape, else a place in `names`, from 1
    names: tuple[str, ...]  # no two alike


@dataclass(frozen=True)
class CutOut:
    """A thing without its background."""

    name: str
    image: Image.Image  # RGBA, cut to what is opaque


def composites(
    landscapes: Sequence[Image.Image], things: Sequence[CutOut], count: int, seed: int, config: CompositeConfig
) -> Iterator[Composite]:
    """`count` pictures; each thing comes as often as any other, up to one."""
    dice = np.random.default_rng(seed)
    deck: list[int] = []
    for _ in range(count):
        page = _landscape(landscapes[int(dice.integers(len(landscapes)))], dice, config.size)
        ids, names, boxes = np.zeros((config.size, config.size), np.uint8), list[str](), list[tuple[int, ...]]()
        for _ in range(int(dice.integers(1, config.most + 1))):
            deck = deck or dice.permutation(len(things)).tolist()
            thing = things[deck.pop()]
            placed = _place(thing.image, boxes, dice, config)
            if thing.name in names or placed is None:
                continue
            left, top, width, height = placed
            small = thing.image.resize((width, height), Image.Resampling.LANCZOS)
            page.paste(small, (left, top), small)
            names.append(thing.name)
            boxes.append(placed)
            ids[top : top + height, left : left + width][np.asarray(small)[..., 3] > _OPAQUE] = len(names)
        yield Composite(np.array(page), ids, tuple(names))


def packaged_parts(root: Path, config: CompositeConfig) -> tuple[list[Image.Image], list[CutOut]]:
    """The landscapes and the things, from packages fetched below `root`.

    Raises:
        InputError, MissingDependencyError: a package cannot be had.
    """
    landscapes = [_opened(path, config.size) for path in _landscape_files(root)]
    things = []
    for one in packaged.everyday(root):
        if one.source == _STAMPS and (image := _cut(one.path, config)) is not None:
            things.append(CutOut(one.name, image))
    return landscapes, things


def _landscape_files(root: Path) -> list[Path]:
    found = []
    for picture in packaged.unseen_photographs(root):
        wallpaper = picture.source == "plasma-workspace-wallpapers"  # .../NAME/contents/images/WIDTHxHEIGHT.jpg
        if (picture.path.parts[-4] if wallpaper else picture.path.stem) in LANDSCAPES:
            found.append(picture.path)
    return found


def _opened(path: Path, size: int) -> Image.Image:
    """A photograph of at most about three times the size that is wanted."""
    with Image.open(path) as file:
        file.draft("RGB", (2 * size, 2 * size))
        image = file.convert("RGB")
    image.thumbnail((3 * size, 3 * size))
    return image


def _cut(path: Path, config: CompositeConfig) -> Image.Image | None:
    with Image.open(path) as file:
        image = file.convert("RGBA")
    opaque = np.asarray(image)[..., 3] > _OPAQUE
    if max(image.size) < config.smallest or opaque.mean() > 0.98:
        return None
    rows, columns = (np.flatnonzero(opaque.any(axis=axis)) for axis in (1, 0))
    image = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    image.thumbnail((config.size, config.size))
    return image


def _landscape(image: Image.Image, dice: np.random.Generator, size: int) -> Image.Image:
    """A square of half the shorter side to all of it."""
    side = int(min(image.size) * dice.uniform(0.5, 1))
    left, top = (int(dice.integers(length - side + 1)) for length in image.size)
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)


def _place(
    image: Image.Image, boxes: Sequence[tuple[int, ...]], dice: np.random.Generator, config: CompositeConfig
) -> tuple[int, int, int, int] | None:
    """Left, top, width and height where it overlaps no other thing by much; None where no such place is found."""
    for _ in range(config.tries):
        factor = config.size * dice.uniform(*config.sides) / max(image.size)
        width, height = (max(1, int(length * factor)) for length in image.size)
        left, top = (int(dice.integers(config.size - length + 1)) for length in (width, height))
        if all(_common((left, top, width, height), box) <= config.overlap for box in boxes):
            return left, top, width, height
    return None


def _common(a: Any, b: Any) -> float:
    """The share of box a that box b covers; boxes are left, top, width, height."""
    sides = (max(0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    return float(np.prod(list(sides)) / (a[2] * a[3]))
