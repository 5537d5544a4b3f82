"""Zero-shot classification of OpenMoji's drawings over all of its names: a drawing style that is never trained on.

The embedded model has seen the same concepts in other styles, and none of the pictograms that are in OpenMoji alone;
the two are reported apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from midsight.api import Perception
from midsight.data import packaged
from midsight.data.packaged import Picture
from midsight.evaluate.metrics import classification, interval


@dataclass(frozen=True)
class Figure:
    """A share between 0 and 1, with its 95 % interval and what guessing gives."""

    metric: str
    value: float
    low: float
    high: float
    chance: float
    count: int  # pictures


def evaluate(model: Perception, root: Path, templates: str = "plain") -> Iterator[Figure]:
    """Top-1 and top-5 over every distinct name, for all drawings, for Unicode emoji and for OpenMoji's own pictograms.

    Args:
        model: any model with a text tower.
        root: where data packages are downloaded to.
        templates: prompt templates by name.

    Raises:
        InputError: the package cannot be had.
        MissingDependencyError: a package client or rsvg-convert is not on this machine.
    """
    pictures = packaged.open_moji(root)
    drawn = list(packaged.rasterise([p.path for p in pictures], root / "rasterised/openmoji"))
    names = sorted({picture.captions[0] for picture in pictures})
    images = torch.from_numpy(model.embed_images(drawn))
    logits = images @ torch.from_numpy(model.embed_texts(names, templates)).T
    targets = torch.tensor([names.index(picture.captions[0]) for picture in pictures])
    own = torch.tensor([is_own(picture) for picture in pictures])
    for group, rows in (("all", torch.ones_like(own)), ("Unicode emoji", ~own), ("OpenMoji's own", own)):
        found = classification(logits[rows], targets[rows])
        for metric, k in (("acc1", 1), ("acc5", 5)):
            low, high = interval(found[metric], int(rows.sum()))
            yield Figure(f"{group}, top-{k}", found[metric], low, high, k / len(names), int(rows.sum()))


def is_own(picture: Picture) -> bool:
    """A pictogram of OpenMoji alone: its code points are private."""
    first = int(picture.path.stem.split("-")[0], 16)
    return 0xE000 <= first <= 0xF8FF
