"""Which layouts and which fonts belong to which part: drawn from the seed, and never shared between parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from midsight.data.documents.config import DocumentsConfig, Kind, Split
from midsight.data.documents.fonts import Family
from midsight.data.documents.layouts import LAYOUTS
from midsight.errors import ConfigError

T = TypeVar("T")
_SMALL = 4  # families of a category; below that they are drawn from a common pool


@dataclass(frozen=True)
class Parts:
    """The layouts of each kind and the families, by part; test_seen has the training's."""

    layouts: Mapping[Split, Mapping[Kind, tuple[str, ...]]]
    families: Mapping[Split, tuple[Family, ...]]


def make_parts(config: DocumentsConfig, families: Sequence[Family]) -> Parts:
    """The parts of this configuration; the same seed and the same families give the same parts."""
    rng = np.random.default_rng((config.seed, 1))
    by_kind = {kind: _drawn(sorted(names), config.held_out_share, rng) for kind, names in LAYOUTS.items()}
    layouts: dict[Split, Mapping[Kind, tuple[str, ...]]] = {
        "train": {kind: parts[0] for kind, parts in by_kind.items()},
        "validation": {kind: parts[1] for kind, parts in by_kind.items()},
        "test_unseen": {kind: parts[2] for kind, parts in by_kind.items()},
    }
    groups: dict[str, list[Family]] = {}
    for family in sorted(families, key=lambda f: f.name):
        groups.setdefault(family.category, []).append(family)
    pool = [f for group in groups.values() if len(group) < _SMALL for f in group]
    drawn = [_drawn(group, config.held_out_share, rng) for group in groups.values() if len(group) >= _SMALL]
    if pool and (len(pool) >= 3 or not drawn):
        drawn.append(_drawn(pool, config.held_out_share, rng))
    elif pool:  # too few to split: training's
        drawn.append((tuple(pool), (), ()))
    train, validation, test = (tuple(f for parts in drawn for f in parts[n]) for n in range(3))
    return Parts(
        {**layouts, "test_seen": layouts["train"]},
        {"train": train, "validation": validation, "test_unseen": test, "test_seen": train},
    )


def _drawn(names: Sequence[T], share: float, rng: np.random.Generator) -> tuple[tuple[T, ...], ...]:
    """Training's, validation's and test's of them, each in the given order; at least one each."""
    held_out = max(1, round(share * len(names)))
    if len(names) < 3:
        raise ConfigError(
            f"{len(names)} ({', '.join(map(str, names))}) cannot be split in three; at least 3 are needed"
        )
    held_out = min(held_out, (len(names) - 1) // 2)
    order = rng.permutation(len(names))
    parts = order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out]
    return tuple(tuple(names[i] for i in sorted(part)) for part in parts)
