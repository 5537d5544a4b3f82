"""Scenes to align on and scenes to be asked about, which share no furniture.

A fifth of the models, chosen by a hash of their names, appears in scenes that are measured and nowhere else. Rooms and
grounds are drawn anew for each scene; their textures and skies are few, and the same on both sides.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.layout import SceneOptions, Stock
from midsight.data.scenes.write import build_scenes

HELD_OUT = 5  # every such model


@dataclass(frozen=True)
class SceneSet:
    """One folder of scenes."""

    name: str
    count: int
    seed: int
    held_out: bool
    clips: bool = False


SETS = (
    SceneSet("train", 2400, 11, held_out=False),
    SceneSet("probe", 400, 14, held_out=True),  # probes are fitted on these
    SceneSet("test", 400, 12, held_out=True),
    SceneSet("clips", 60, 13, held_out=True, clips=True),
)


def is_held_out(model: FurnitureModel) -> bool:
    """Whether a piece of furniture is kept for measuring."""
    return int(hashlib.sha256(model.name.encode()).hexdigest(), 16) % HELD_OUT == 0


def build(
    root: Path, stock: Stock, size: int, report: Callable[[str], None], sets: tuple[SceneSet, ...] = SETS
) -> None:
    """All sets as `root/NAME`; what is there is kept, and a stopped build goes on.

    Args:
        size: pixels of a side.
        report: called with a line for each set.
    """
    sides = {held: tuple(m for m in stock.models if is_held_out(m) is held) for held in (False, True)}
    for one in sets:
        options = SceneOptions(size=size)
        made = build_scenes(
            root / one.name, one.count, one.seed, stock=replace(stock, models=sides[one.held_out]), clips=one.clips,
            options=options, per_shard=100,
        )  # fmt: skip
        report(f"{one.name}: {made.samples} scenes of {len(sides[one.held_out])} models")
