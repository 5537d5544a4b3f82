"""mIoU against scikit-learn; errors of depth against their formulas, pixel by pixel."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from midsight.errors import InputError, ShapeError
from midsight.evaluate.metrics import Confusion, depth_errors, mean_errors
from midsight.evaluate.metrics.depth import NYU_CROP, DepthProtocol


def test_figures_agree_with_scikit_learn() -> None:
    dice = np.random.default_rng(0)
    confusion = Confusion(6)
    truths, found = [], []
    for size in ((20, 30), (11, 7)):
        truth = dice.choice([0, 1, 2, 4, 255], size)  # 3 is never there, 5 neither there nor predicted
        predicted = np.where(dice.random(size) < 0.6, truth, dice.integers(0, 5, size))
        predicted[truth == 255] = 0
        confusion.add(predicted, truth.astype(np.uint8))
        truths.append(truth[truth != 255])
        found.append(predicted[truth != 255])
    truth, predicted = np.concatenate(truths), np.concatenate(found)
    np.testing.assert_array_equal(confusion.matrix, confusion_matrix(truth, predicted, labels=range(6)))
    figures = confusion.figures()
    assert figures["mIoU"] == pytest.approx(jaccard_score(truth, predicted, labels=range(5), average="macro"))
    assert figures["aAcc"] == pytest.approx(accuracy_score(truth, predicted))
    expected = np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)])
    assert figures["mAcc"] == pytest.approx(expected)
    assert np.isnan(confusion.iou()[5])


def test_what_cannot_be_counted_is_told() -> None:
    confusion = Confusion(3)
    with pytest.raises(InputError, match="nothing to measure"):
        confusion.figures()
    with pytest.raises(InputError, match="the truth holds classes from 0 to 3"):
        confusion.add(np.array([0, 1]), np.array([0, 3]))
    with pytest.raises(InputError, match="the prediction holds"):
        confusion.add(np.array([0, 7]), np.array([0, 2]))
    with pytest.raises(ShapeError):
        confusion.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(InputError):
        Confusion(0)


def test_depth_errors_by_their_formulas() -> None:
    dice = np.random.default_rng(0)
    truth = dice.uniform(0, 12, (6, 8))
    truth[0, 0] = 0
    predicted = truth * dice.uniform(0.4, 2.2, truth.shape)
    sums = dict.fromkeys(("sq", "rel", "sqrel", "log", "log10", "d1", "d2", "d3"), 0.0)
    count = 0
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if 1e-3 < t < 10:
            p, count = min(max(p, 1e-3), 10), count + 1
            sums["sq"] += (p - t) ** 2
            sums["rel"] += abs(p - t) / t
            sums["sqrel"] += (p - t) ** 2 / t
            sums["log"] += (math.log(p) - math.log(t)) ** 2
            sums["log10"] += abs(math.log10(p / t))
            for k in (1, 2, 3):
                sums[f"d{k}"] += max(p / t, t / p) < 1.25**k
    m = {key: value / count for key, value in sums.items()}
    expected = {
        "RMSE": math.sqrt(m["sq"]), "AbsRel": m["rel"], "SqRel": m["sqrel"], "RMSElog": math.sqrt(m["log"]),
        "log10": m["log10"], "delta1": m["d1"], "delta2": m["d2"], "delta3": m["d3"],
    }  # fmt: skip
    found = depth_errors(predicted, truth, DepthProtocol(nyu_crop=False))
    assert found == pytest.approx(expected)
    assert 0 < found["delta1"] < found["delta2"] < found["delta3"] < 1


def test_the_border_of_nyu_does_not_count() -> None:
    truth = np.full((480, 640), 2.0)
    predicted = np.full((480, 640), 9.0)
    predicted[NYU_CROP] = 2.5
    found = depth_errors(predicted, truth)
    assert found["RMSE"] == pytest.approx(0.5)
    predicted[45, 41] = predicted[470, 600] = 3.0  # the corners still count
    assert depth_errors(predicted, truth)["RMSE"] > 0.5
    with pytest.raises(ShapeError, match="480 x 640"):
        depth_errors(predicted[:100], truth[:100])
    with pytest.raises(InputError, match="no pixel"):
        depth_errors(predicted, truth * 0)
    with pytest.raises(ShapeError):
        depth_errors(predicted, truth[:10])


def test_means_are_over_pictures() -> None:
    assert mean_errors([{"RMSE": 1.0}, {"RMSE": 2.0}]) == {"RMSE": 1.5}
    with pytest.raises(InputError):
        mean_errors([])
