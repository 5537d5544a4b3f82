"""Scenes to align on, to train heads on, and to be asked about, which share no furniture with what learns.

A fifth of the models, chosen by a hash of their names, is kept from alignment. Half of these, by a hash of their files,
is kept from the heads as well: nothing that ships has seen them. They are of a few groups only, so a fifth of the other
models, by file, is kept from the heads alone: alignment has seen their masks, but no name of them. Rooms and grounds
are drawn anew for each scene; their textures and skies are few, and the same on all sides.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.layout import SceneOptions, Stock
from midsight.data.scenes.write import build_scenes

HELD_OUT = 5  # every such model
HELD_OUT_FOR_HEADS = 2  # every such model of those that are held out

Side = Literal["aligned", "held_out", "heads", "heads_test", "heads_unseen"]


@dataclass(frozen=True)
class SceneSet:
    """One folder of scenes."""

    name: str
    count: int
    seed: int
    side: Side  # of the models
    clips: bool = False


SETS = (
    SceneSet("train", 2400, 11, "aligned"),
    SceneSet("probe", 400, 14, "held_out"),  # probes are fitted on these
    SceneSet("test", 400, 12, "held_out"),
    SceneSet("clips", 60, 13, "held_out", clips=True),
)
HEAD_SETS = (
    SceneSet("heads", 3600, 21, "heads"),
    SceneSet("heads_validation", 200, 22, "heads"),  # the same models in other scenes: for choices
    SceneSet("heads_test", 400, 23, "heads_test"),
    SceneSet("heads_unseen", 400, 24, "heads_unseen"),
)


def is_held_out(model: FurnitureModel) -> bool:
    """Whether a piece of furniture is kept from alignment."""
    return _hash(model.name) % HELD_OUT == 0


def sides_of(model: FurnitureModel) -> frozenset[Side]:
    """The sides that a piece of furniture is on: one of alignment's two, and one of the heads' three."""
    held, file = is_held_out(model), _hash(f"{model.source}/{model.path.name}")
    if held:
        heads: Side = "heads_unseen" if file % HELD_OUT_FOR_HEADS == 0 else "heads"
    else:
        heads = "heads_test" if file % HELD_OUT == 0 else "heads"
    return frozenset(("held_out" if held else "aligned", heads))


def build(
    root: Path, stock: Stock, size: int, report: Callable[[str], None], sets: tuple[SceneSet, ...] = SETS
) -> None:
    """All sets as `root/NAME`; what is there is kept, and a stopped build goes on.

    Args:
        size: pixels of a side.
        report: called with a line for each set.
    """
    for one in sets:
        models = tuple(model for model in stock.models if one.side in sides_of(model))
        made = build_scenes(
            root / one.name, one.count, one.seed, stock=replace(stock, models=models), clips=one.clips,
            options=SceneOptions(size=size), per_shard=100,
        )  # fmt: skip
        report(f"{one.name}: {made.samples} scenes of {len(models)} models")


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
