"""95 % intervals by drawing the measured pictures again, with replacement."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Figure = Callable[[Floats], Floats]  # mean statistics (..., F) to figures (...)
DRAWS = 1000
AT_ONCE = 1 << 24  # weights in memory; the draws are the same in any pieces


def mean_of(statistics: Floats) -> Floats:
    """The figure that is a plain mean: (..., 1) to (...)."""
    return statistics[..., 0]


def bootstrap(
    statistics: npt.NDArray[Any], figure: Figure = mean_of, draws: int = DRAWS, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Figures of several candidates with their intervals, all from the same draws.

    Args:
        statistics: (L, N, F) of L candidates on N pictures (or objects); a figure follows from their mean over N.
        figure: (..., F) to (...).

    Returns:
        Value, 2.5th and 97.5th percentile, each float64 (L,). Of a single picture all three are equal.
    """
    values = statistics.astype(np.float64)
    pictures = values.shape[1]
    dice = np.random.default_rng(seed)
    even = np.full(pictures, 1 / pictures)
    means = []  # of some draws each: L, r, F
    for start in range(0, draws, at_once := max(1, AT_ONCE // pictures)):
        weights = dice.multinomial(pictures, even, min(at_once, draws - start)) / pictures  # r, N
        means.append(np.stack([weights @ own for own in values]))
    drawn = figure(np.concatenate(means, axis=1))  # L, R
    low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=1)
    return figure(values.mean(axis=1)), low, high
