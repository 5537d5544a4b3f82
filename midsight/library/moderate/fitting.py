"""A policy calibrated by labelled files: scored, fitted, put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from midsight.api import Perception
from midsight.errors import InputError
from midsight.library.moderate.calibrate import Fit, Target, calibrated, fit
from midsight.library.moderate.job import Moderator
from midsight.library.moderate.labels import Labels
from midsight.library.moderate.policy import Calibration, Policy


@dataclass(frozen=True)
class Fitted:
    """What calibration gives.

    Attributes:
        policy: with the thresholds that were found.
        fits: for each category that has labels of both kinds, one for each target.
        files: labelled files that were read.
        failures: why the others could not be read.
        skipped: categories that keep their thresholds, each with the reason.
    """

    policy: Policy
    fits: Sequence[Fit]
    files: int
    failures: Sequence[str]
    skipped: Sequence[str]


def fit_policy(
    model: Perception,
    policy: Policy,
    labels: Labels,
    targets: Sequence[Target],
    batch_size: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Fitted:
    """Thresholds for all categories.

    Args:
        labels: for each file what is known of it, by category.
        targets: one for the threshold. A second one is for the lower end of the review band: files that the first
            does not flag and the second does are for a person to look at.
        tick: called after each file.

    Raises:
        InputError: no category has labels of both kinds.
    """
    moderator = Moderator(model, replace(policy, calibration=None))
    scored: list[tuple[Path, list[float]]] = []
    failures = []
    for path, verdict in zip(labels, moderator.verdicts(labels, batch_size), strict=True):
        tick()
        if verdict.error is None:
            scored.append((path, [finding.score for finding in verdict.findings]))
        else:
            failures.append(verdict.error)
    fits, skipped = _fits(policy, labels, scored, targets)
    if not fits:
        raise InputError(skipped[0])
    first = [found for found in fits if found.target == targets[0]]
    bands = {found.category: found for found in fits if found.target in targets[1:]}
    about = Calibration(model.name, model.identity, len(scored))
    return Fitted(calibrated(policy, first, bands, about), fits, len(scored), failures, skipped)


def _fits(
    policy: Policy, labels: Labels, scored: Sequence[tuple[Path, Sequence[float]]], targets: Sequence[Target]
) -> tuple[list[Fit], list[str]]:
    fits, skipped = [], []
    for number, name in enumerate(policy.names):
        known = [(scores[number], labels[path][name]) for path, scores in scored if name in labels[path]]
        if not known:
            skipped.append(f"{name}: no labels; its threshold stays as it is")
            continue
        values, truth = np.array([score for score, _ in known]), np.array([yes for _, yes in known], bool)
        try:
            fits += [fit(name, values, truth, target) for target in targets]
        except InputError as error:
            skipped.append(f"{error}; its threshold stays as it is")
    return fits, skipped
