"""Thresholds from labelled files: the one that reaches a wanted recall or precision, and how far to trust it.

The threshold is chosen on all labelled files. What it will do on new ones is told by leaving one out: each file is
judged by the threshold that all others give, and precision and recall of these judgements come with Wilson's 95 %
interval. Figures on the files that chose the threshold would flatter it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.library.moderate.policy import Calibration, Category, Policy

Scores = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
What = Literal["recall", "precision"]

FEW = 10  # files that show a category, or do not: below it the interval says little
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Target:
    """What a threshold must reach on the labelled files."""

    what: What
    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise InputError(f"the wanted {self.what} must be above 0 and at most 1, got {self.value}")

    def __str__(self) -> str:
        return f"{self.what} {self.value:g}"


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval by Wilson's method; nan for none of none."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Source: E. B. Wilson, 1927; the score interval without correction for continuity."""
        if not self.total:
            return 0.0, 1.0
        n, p, z2 = self.total, self.value, Z95**2
        middle, half = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
        return max(0.0, low) if self.hits else 0.0, min(1.0, high) if self.hits < n else 1.0

    def __str__(self) -> str:
        if not self.total:
            return "none of none"
        low, high = self.interval
        return f"{self.value:.2f} ({low:.2f} to {high:.2f}), {self.hits} of {self.total}"


@dataclass(frozen=True)
class Curve:
    """Precision and recall at every threshold that makes a difference, from the highest down."""

    thresholds: Scores  # (T,): each distinct score; files of this score or more are flagged
    precision: Scores
    recall: Scores


@dataclass(frozen=True)
class Fit:
    """What calibration found for one category and one target.

    Attributes:
        scores, labels: of the labelled files, (N,).
        threshold: None where no threshold reaches the target.
        precision, recall: on the labelled files themselves, at the threshold.
        new_precision, new_recall: to be expected of new files, by leaving one out.
    """

    category: str
    target: Target
    scores: Scores
    labels: Bools
    threshold: float | None
    precision: Share
    recall: Share
    new_precision: Share
    new_recall: Share

    @property
    def warnings(self) -> list[str]:
        """What makes the figures weak, each in a sentence."""
        yes, no = int(self.labels.sum()), int((~self.labels).sum())
        found = []
        for count, what in ((yes, "show it"), (no, "do not")):
            if count < FEW:
                found.append(f"only {count} labelled files {what}; label {FEW} or more, 25 are better")
        if self.threshold is None:
            best = curve(self.scores, self.labels).precision.max()
            found.append(f"no threshold reaches {self.target}; the best precision is {best:.2f}")
        elif self.target.what == "recall" and self.target.value < 1 and yes * (1 - self.target.value) < 1:
            needed = math.ceil(round(1 / (1 - self.target.value), 6))
            found.append(f"{self.target} of {yes} files means all of them; it takes {needed} to tell it from recall 1")
        return found


def curve(scores: Scores, labels: Bools) -> Curve:
    """The precision-recall curve.

    Args:
        scores: (N,), of which higher means more.
        labels: (N,), at least one of them true.

    Raises:
        InputError: nothing is true.
    """
    if not labels.any():
        raise InputError("no file shows the category, so there is no recall to speak of")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], labels[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # files of one score are flagged together
    right, flagged = np.cumsum(hits)[last], np.arange(1, len(ranked) + 1)[last]
    return Curve(ranked[last], right / flagged, right / labels.sum())


def choose(scores: Scores, labels: Bools, target: Target) -> float | None:
    """The threshold that reaches the target.

    For a recall the highest one, so that precision is best; for a precision the lowest one, so that recall is best. It
    lies half way down to the next lower score: on the labelled files that changes nothing.

    Returns:
        None where no threshold reaches it, which only a precision can bring about.
    """
    found = curve(scores, labels)
    if target.what == "recall":
        at = int(np.argmax(found.recall >= target.value - 1e-12))
    else:
        reached = np.flatnonzero(found.precision >= target.value - 1e-12)
        if not len(reached):
            return None
        at = int(reached[-1])
    below = float(found.thresholds[at + 1]) if at + 1 < len(found.thresholds) else 0.0
    return _between(below, float(found.thresholds[at]))


def _between(below: float, score: float) -> float:
    """A number of few digits in (below, score], near the middle."""
    middle = (below + score) / 2
    for digits in range(2, 17):
        short = float(f"{middle:.{digits}g}")
        if below < short <= score:
            return short
    return score


def fit(category: str, scores: Scores, labels: Bools, target: Target) -> Fit:
    """Chooses a threshold and judges it.

    Args:
        scores, labels: (N,), of the labelled files, in any order.

    Raises:
        InputError: not both kinds of files.
    """
    yes = int(labels.sum())
    if not yes or yes == len(labels):
        lacking = "shows" if not yes else "does not show"
        raise InputError(
            f"category {category!r}: no labelled file {lacking} it; label some of both kinds, about 50 files in all"
        )
    threshold = choose(scores, labels, target)
    flagged = scores >= (math.inf if threshold is None else threshold)
    precision, recall = shares(flagged, labels)
    new_precision, new_recall = shares(_left_out(scores, labels, target), labels)
    return Fit(category, target, scores, labels, threshold, precision, recall, new_precision, new_recall)


def shares(flagged: Bools, labels: Bools) -> tuple[Share, Share]:
    """Precision and recall."""
    right = int((flagged & labels).sum())
    return Share(right, int(flagged.sum())), Share(right, int(labels.sum()))


def _left_out(scores: Scores, labels: Bools, target: Target) -> Bools:
    """Whether each file is flagged by the threshold that all others choose."""
    flagged = np.zeros(len(scores), bool)
    for n in range(len(scores)):
        others = np.arange(len(scores)) != n
        if labels[others].any():
            threshold = choose(scores[others], labels[others], target)
            flagged[n] = threshold is not None and scores[n] >= threshold
    return flagged


def calibrated(policy: Policy, fits: Sequence[Fit], bands: Mapping[str, Fit], calibration: Calibration) -> Policy:
    """The policy with the thresholds that were found; categories without one stay as they are.

    Args:
        fits: for thresholds.
        bands: for the lower ends of review bands, by category. One that is not below the threshold means no band.
    """
    by_name = {found.category: found.threshold for found in fits}
    lower = {name: found.threshold for name, found in bands.items()}
    categories = tuple(
        _with_threshold(category, by_name.get(category.name), lower.get(category.name))
        for category in policy.categories
    )
    return replace(policy, categories=categories, calibration=calibration)


def _with_threshold(category: Category, threshold: float | None, review: float | None) -> Category:
    if threshold is None:
        return category
    review = category.review if review is None else review
    return replace(category, threshold=threshold, review=review if review is not None and review < threshold else None)
