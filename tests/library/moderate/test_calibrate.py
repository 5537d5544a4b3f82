"""Thresholds and intervals against scikit-learn, SciPy, and counting."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from midsight.errors import InputError
from midsight.library.moderate.calibrate import Bools, Scores, Share, Target, choose, curve, fit

FILES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40)  # few scores: many are equal


def arrays(files: list[tuple[int, bool]]) -> tuple[Scores, Bools]:
    scores, labels = np.array([score / 20 for score, _ in files]), np.array([label for _, label in files], bool)
    labels[0], labels[1] = True, False
    return scores, labels


@settings(max_examples=200, deadline=None)
@given(FILES)
def test_the_curve_is_that_of_scikit_learn(files: list[tuple[int, bool]]) -> None:
    scores, labels = arrays(files)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    found = curve(scores, labels)
    np.testing.assert_allclose(found.thresholds, thresholds[::-1])
    np.testing.assert_allclose(found.precision, precision[:-1][::-1])
    np.testing.assert_allclose(found.recall, recall[:-1][::-1])


@settings(max_examples=200, deadline=None)
@given(FILES, st.sampled_from(["recall", "precision"]), st.sampled_from([0.2, 0.5, 0.75, 0.9, 1.0]))
def test_no_other_threshold_would_be_better(files: list[tuple[int, bool]], what: str, value: float) -> None:
    scores, labels = arrays(files)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    pairs = list(zip(precision[:-1], recall[:-1], strict=True))  # one for each threshold
    wanted, other = (1, 0) if what == "recall" else (0, 1)
    reaching = [pair for pair in pairs if pair[wanted] >= value - 1e-12]
    threshold = choose(scores, labels, Target(what, value))  # type: ignore[arg-type]
    if not reaching:
        assert what == "precision"
        assert threshold is None
        return
    assert threshold is not None
    assert 0 <= threshold <= 1
    flagged = scores >= threshold
    got = (precision_score(labels, flagged), recall_score(labels, flagged))
    assert got[wanted] >= value - 1e-12
    if what == "precision":
        assert got[other] == pytest.approx(max(pair[other] for pair in reaching))
    else:  # the highest threshold that keeps the recall
        highest = max(t for t, pair in zip(thresholds, pairs, strict=True) if pair[wanted] >= value - 1e-12)
        assert got == pytest.approx(
            (precision_score(labels, scores >= highest), recall_score(labels, scores >= highest))
        )


def test_the_threshold_lies_between_scores_and_is_short() -> None:
    scores, labels = np.array([0.91234567, 0.7, 0.2, 0.1]), np.array([True, True, False, False])
    assert choose(scores, labels, Target("recall", 1)) == 0.45
    assert choose(scores, labels, Target("recall", 0.5)) == 0.81
    close = np.array([1 - 1e-12, 1 - 3e-12, 0.1])
    threshold = choose(close, np.array([True, False, False]), Target("recall", 1))
    assert threshold is not None
    assert close[1] < threshold <= close[0]


@pytest.mark.parametrize(("hits", "total"), [(0, 5), (5, 5), (12, 12), (3, 17), (47, 50), (1, 1), (999, 1000)])
def test_intervals_are_wilsons(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(0.95, "wilson")
    assert Share(hits, total).interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_none_of_none() -> None:
    assert math.isnan(Share(0, 0).value)
    assert (Share(0, 0).interval, str(Share(0, 0))) == ((0, 1), "none of none")
    assert str(Share(9, 10)) == "0.90 (0.60 to 0.98), 9 of 10"


def test_new_files_are_judged_by_the_others() -> None:
    dice = np.random.default_rng(0)
    labels = dice.random(40) < 0.4
    scores = np.clip(dice.normal(0.4 + 0.3 * labels, 0.2), 0, 1)
    target = Target("recall", 0.8)
    found = fit("guns", scores, labels, target)
    flagged = []
    for n in range(40):
        others = [m for m in range(40) if m != n]
        threshold = choose(scores[others], labels[others], target)
        flagged.append(threshold is not None and scores[n] >= threshold)
    right = sum(a and b for a, b in zip(flagged, labels, strict=True))
    assert found.new_precision == Share(right, sum(flagged))
    assert found.new_recall == Share(right, int(labels.sum()))
    assert found.threshold == choose(scores, labels, target)
    assert found.recall.value >= 0.8
    assert found.precision.value == pytest.approx(precision_score(labels, scores >= found.threshold))
    assert found.new_precision != found.precision, "else the two could not be told apart here"


def test_intervals_hold_the_truth() -> None:
    """Drawn from known distributions, the precision on all others lies in the interval about as often as it says."""
    dice = np.random.default_rng(1)
    inside, rounds = 0, 200
    for _ in range(rounds):
        labels = dice.random(50) < 0.4
        scores = 1 / (1 + np.exp(-dice.normal(-1 + 2.5 * labels, 1.0)))
        found = fit("a", scores, labels, Target("recall", 0.9))
        many = dice.random(4000) < 0.4
        others = 1 / (1 + np.exp(-dice.normal(-1 + 2.5 * many, 1.0)))
        low, high = found.new_precision.interval
        inside += low <= many[others >= found.threshold].mean() <= high
    assert 0.88 <= inside / rounds <= 1.0


def test_few_labels_are_told() -> None:
    scores, labels = np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, False, True, False])
    few = fit("a", scores, labels, Target("recall", 0.9)).warnings
    assert "only 2 labelled files show it" in few[0]
    assert "only 2 labelled files do not" in few[1]
    assert "recall 0.9 of 2 files means all of them; it takes 10" in few[2]
    wrong = fit("a", scores, ~labels, Target("precision", 0.9))
    assert wrong.threshold is None
    assert "no threshold reaches precision 0.9; the best precision is 0.50" in wrong.warnings[-1]
    many = np.linspace(0, 1, 60)
    assert fit("a", many, many > 0.5, Target("recall", 0.9)).warnings == []


def test_what_cannot_be() -> None:
    scores = np.array([0.1, 0.9])
    for labels, word in ((np.array([True, True]), "does not show"), (np.array([False, False]), "shows")):
        with pytest.raises(InputError, match=f"category 'a': no labelled file {word} it"):
            fit("a", scores, labels, Target("recall", 0.9))
    for value in (0, -1, 1.1, math.nan):
        with pytest.raises(InputError, match="wanted recall must be above 0 and at most 1"):
            Target("recall", value)
