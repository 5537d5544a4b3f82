"""Intervals by drawing again."""

import numpy as np
import pytest

from midsight.evaluate.metrics import bootstrap as module
from midsight.evaluate.metrics.bootstrap import bootstrap


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, (2, 400, 1))
    value, low, high = bootstrap(values, draws=4000)
    for row in range(2):
        error = 1.96 * values[row].std() / 20
        assert value[row] == pytest.approx(values[row].mean())
        assert low[row] == pytest.approx(value[row] - error, abs=0.1 * error)
        assert high[row] == pytest.approx(value[row] + error, abs=0.1 * error)


def test_candidates_meet_the_same_draws_and_a_seed_repeats_them() -> None:
    values = np.random.default_rng(1).random((1, 30, 1))
    _, low, high = bootstrap(np.concatenate((values, values + 1)))
    assert low[1] - low[0] == pytest.approx(1)
    assert high[1] - high[0] == pytest.approx(1)
    np.testing.assert_array_equal(bootstrap(values)[1], low[:1])
    assert bootstrap(values, seed=1)[1] != low[0]


def test_a_single_picture_has_no_spread_and_figures_may_be_ratios() -> None:
    single = np.array([[[2.0, 4.0]]])
    value, low, high = bootstrap(single, lambda sums: sums[..., 0] / sums[..., 1])
    assert (value[0], low[0], high[0]) == (0.5, 0.5, 0.5)


def test_draws_are_the_same_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((2, 30, 1))
    whole = bootstrap(values)
    monkeypatch.setattr(module, "AT_ONCE", 70)  # two draws at once
    np.testing.assert_allclose(bootstrap(values), whole, rtol=1e-12)
