"""What is to be made: how many documents of each kind, how large, how hard, and from which seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from midsight.errors import ConfigError

Kind = Literal["text", "table", "invoice", "form", "chart", "infographic", "card"]
Split = Literal["train", "validation", "test_unseen", "test_seen"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
# what `documents_of` gives each kind of a total; charts have the most types, cards the fewest questions
_PROPORTIONS: Mapping[Kind, float] = MappingProxyType(
    {"text": 0.16, "table": 0.14, "invoice": 0.16, "form": 0.12, "chart": 0.22, "infographic": 0.1, "card": 0.1}
)

_RANGES = (
    ("other_share", 0.001, 1), ("held_out_share", 0.01, 0.4), ("clean_share", 0, 1), ("min_side", 224, 4096),
    ("max_side", 224, 4096), ("min_text", 6, 40), ("max_questions", 1, 100), ("seed", 0, 2**63),
)  # fmt: skip


def documents_of(total: int) -> dict[Kind, int]:
    """A total spread over the kinds; the counts add up to it."""
    if total < 1:
        raise ConfigError(f"the number of documents must be at least 1, got {total}")
    counts = {kind: int(total * share) for kind, share in _PROPORTIONS.items()}
    for kind in sorted(KINDS, key=lambda k: counts[k] - total * _PROPORTIONS[k])[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


@dataclass(frozen=True)
class DocumentsConfig:
    """A data set of documents; the same values, fonts and versions give the same bytes.

    The three other parts have `other_share` of the training's documents each, and at least one of each kind:
    validation and test_unseen with layouts and fonts of their own, test_seen with the training's and new records.
    """

    counts: Mapping[Kind, int] = field(default_factory=lambda: documents_of(1000))  # training documents of each kind
    other_share: float = 0.05
    seed: int = 0
    min_side: int = 448  # of the picture's longer side, pixels
    max_side: int = 1344
    min_text: float = 11.0  # height of the smallest text's em, pixels; pages that would need less hold less
    clean_share: float = 0.35  # pictures as rendered; the others are blurred, tinted, turned, compressed
    max_questions: int = 8  # of one document
    held_out_share: float = 0.15  # of the layouts and of the fonts, for validation and for test each; at least one

    def __post_init__(self) -> None:
        unknown = sorted(set(self.counts) - set(KINDS))
        if unknown:
            raise ConfigError(f"counts: {', '.join(unknown)}: no such kind. Known are {', '.join(KINDS)}.")
        if any(count < 0 for count in self.counts.values()) or not sum(self.counts.values()):
            raise ConfigError(f"counts must be 0 or more, and not all 0, got {dict(self.counts)}")
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be {low:g} to {high:g}, got {getattr(self, name)}")
        if self.min_side > self.max_side:
            raise ConfigError(f"min_side must be at most max_side, got {self.min_side} and {self.max_side}")
        if self.min_text > self.max_side / 28:
            raise ConfigError(
                f"min_text of {self.min_text} pixels leaves no room on pages of {self.max_side}: it may be a 28th of "
                f"max_side at most ({self.max_side / 28:.1f})"
            )

    def count(self, split: Split, kind: Kind) -> int:
        """Documents of that kind in that part."""
        train = self.counts.get(kind, 0)
        return train if split == "train" or not train else max(1, round(train * self.other_share))
