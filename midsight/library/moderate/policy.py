"""What a collection is looked through for: categories of prompts, negatives and example pictures, with thresholds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midsight.errors import ConfigError
from midsight.library.embed import fingerprint

VERSION = 1  # of the file's format
# What most pictures show. These compete with the prompts of a category, so that a picture of something else altogether
# is not given to the category for want of anything nearer.
NEUTRAL = (
    "a man", "a woman", "a child", "a group of people", "a crowd", "a face", "people playing sports",
    "a dog", "a cat", "a wild animal", "a farm animal", "a bird", "a fish", "an insect", "a reptile",
    "a tree", "a flower", "leaves", "grass", "fruit", "vegetables", "bread", "a meal on a plate", "a dessert",
    "a drink",
    "a mountain", "a beach", "a forest", "a field", "a river", "the sky", "snow", "a garden",
    "a city street", "a road", "a house", "a church", "a tall building", "a bridge", "a room", "a kitchen", "a shop",
    "furniture", "a lamp", "clothes", "shoes", "a bag", "a toy", "a ball", "a book", "a musical instrument",
    "a tool", "kitchenware", "a bottle", "a box", "a machine", "a computer", "a telephone", "a clock",
    "a car", "a truck", "a bicycle", "a train", "a boat", "an aircraft",
    "a document with text", "a screenshot", "a sign", "a logo", "a map", "a chart", "a drawing", "a painting",
    "a pattern", "a blank picture",
)  # fmt: skip


@dataclass(frozen=True)
class Category:
    """One thing to look for.

    Attributes:
        name: as it stands in results.
        prompts: texts that describe it.
        negatives: texts that describe what is like it and is not meant.
        examples: pictures of it.
        threshold: files of this score or more are flagged.
        review: files from this score up to the threshold are for a person to look at; None: no such band.
    """

    name: str
    prompts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    examples: tuple[Path, ...] = ()
    threshold: float = 0.5
    review: float | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("the name of a category is empty")
        if not self.prompts and not self.examples:
            raise ConfigError(f"category {self.name!r} has neither prompts nor examples; give at least one of them")
        if self.negatives and not self.prompts:
            raise ConfigError(f"category {self.name!r} has negatives, but no prompts that they could stand against")
        both = [text for text in self.negatives if text in self.prompts]
        if both:
            raise ConfigError(f"category {self.name!r}: {both[0]!r} is a prompt and a negative; leave it out of one")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"category {self.name!r}: threshold must be above 0 and at most 1, got {self.threshold}")
        if self.review is not None and not 0 < self.review <= self.threshold:
            raise ConfigError(
                f"category {self.name!r}: review must be above 0 and at most the threshold of {self.threshold}, "
                f"got {self.review}"
            )

    @property
    def lowest(self) -> float:
        """The lowest score that is not passed."""
        return self.threshold if self.review is None else self.review


@dataclass(frozen=True)
class Calibration:
    """What thresholds were fitted with: they hold for this model alone."""

    model: str
    identity: str  # `Perception.identity`
    files: int


@dataclass(frozen=True)
class Policy:
    """All categories, and how files are looked at.

    Attributes:
        categories: each of another name.
        neutral: texts for what most pictures show; they compete with each category's prompts.
        templates: prompt templates by name, or texts with "{c}"; see `Perception.embed_texts`.
        segment_seconds: length of the clips that videos are judged by.
        frames: taken from each clip.
        calibration: None for thresholds that were written by hand.
    """

    categories: tuple[Category, ...]
    neutral: tuple[str, ...] = NEUTRAL
    templates: str | tuple[str, ...] = "plain"
    segment_seconds: float = 5.0
    frames: int = 8
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if not self.categories:
            raise ConfigError("the policy has no categories; give at least one")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"two categories have the same name; got {', '.join(self.names)}")
        if not self.segment_seconds > 0:
            raise ConfigError(f"segment_seconds must be above 0, got {self.segment_seconds}")
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1, got {self.frames}")

    @property
    def names(self) -> tuple[str, ...]:
        """The categories' names, in order."""
        return tuple(category.name for category in self.categories)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that verdicts depend on, examples' names, sizes and times of change included."""
        examples: Sequence[Path] = [path for category in self.categories for path in category.examples]
        return hashlib.sha256(f"{self!r} {fingerprint(examples)}".encode("utf-8", "backslashreplace")).hexdigest()
