"""95 % intervals by drawing the measured pictures again, with replacement."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Figure = Callable[[Floats], Floats]  # mean statistics (..., F) to figures (...)
DRAWS = 1000


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
    weights = dice.multinomial(pictures, np.full(pictures, 1 / pictures), draws) / pictures  # R, N
    low, high = np.empty(len(values)), np.empty(len(values))
    for number, own in enumerate(values):
        low[number], high[number] = np.nanpercentile(figure(weights @ own), (2.5, 97.5))
    return figure(values.mean(axis=1)), low, high
