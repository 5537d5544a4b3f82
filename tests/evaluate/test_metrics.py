"""Zero-shot figures against plain counting."""

import math

import numpy as np
import pytest
import torch

from midsight.errors import InputError, ShapeError
from midsight.evaluate.metrics import classification, interval, retrieval


def counted(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    ranks = [int((row > row[target]).sum()) for row, target in zip(logits, targets, strict=True)]
    recalls = []
    for label in sorted(set(targets.tolist())):
        of_class = [rank for rank, target in zip(ranks, targets, strict=True) if target == label]
        recalls.append(sum(rank == 0 for rank in of_class) / len(of_class))
    return {
        "acc1": sum(rank < 1 for rank in ranks) / len(ranks),
        "acc5": sum(rank < 5 for rank in ranks) / len(ranks),
        "mean_per_class_recall": sum(recalls) / len(recalls),
    }


def test_classification_counts() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(60, 9)), rng.integers(0, 7, size=60)  # the last two classes never occur
    logits[np.arange(60), targets] += 1
    actual = classification(torch.from_numpy(logits), torch.from_numpy(targets))
    assert actual == pytest.approx(counted(logits, targets))
    assert 0 < actual["acc1"] < actual["acc5"] < 1


def test_acc5_is_nan_below_five_classes() -> None:
    figures = classification(torch.eye(4), torch.arange(4))
    assert math.isnan(figures["acc5"])
    assert figures["acc1"] == figures["mean_per_class_recall"] == 1


def test_classification_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 4\), \(2,\)"):
        classification(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ShapeError, match="integers"):
        classification(torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(InputError, match="run from 0 to 4"):
        classification(torch.zeros(3, 4), torch.tensor([0, 1, 4]))
    with pytest.raises(InputError, match="no rows"):
        classification(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


@pytest.mark.parametrize("dual_softmax", [False, True])
def test_retrieval_counts(dual_softmax: bool) -> None:
    rng = np.random.default_rng(1)
    scores, positives = rng.normal(size=(30, 12)), rng.random((30, 12)) < 0.1
    figures = retrieval(torch.from_numpy(scores), torch.from_numpy(positives), k=(1, 3, 50), dual_softmax=dual_softmax)
    for direction, table, truth in (("image", scores, positives), ("text", scores.T, positives.T)):
        if dual_softmax:
            weights = np.exp(table)
            table = table * weights / weights.sum(axis=0, keepdims=True)
        order = np.argsort(-table, axis=1)
        for k in (1, 3, 50):
            hits = [truth[query, order[query, :k]].any() for query in range(len(table))]
            assert figures[f"{direction}_retrieval_recall@{k}"] == pytest.approx(np.mean(hits))
    assert len(figures) == 6


def test_dual_softmax_changes_the_answer() -> None:
    """One medium that every text likes best loses its hold."""
    scores = torch.tensor([[2.0, 1.9], [8.0, 1.0]])
    positives = torch.tensor([[False, True], [True, False]])
    assert retrieval(scores, positives, k=(1,), dual_softmax=False)["image_retrieval_recall@1"] == 0.5
    assert retrieval(scores, positives, k=(1,))["image_retrieval_recall@1"] == 1


def test_retrieval_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="bool positives"):
        retrieval(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(InputError, match="nothing to measure"):
        retrieval(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="at least 1"):
        retrieval(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), k=(0,))


def test_interval_is_wilsons() -> None:
    low, high = interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-3), pytest.approx(0.5962, abs=1e-3))
    assert interval(0.0, 20)[0] == 0
    assert interval(0.0, 20)[1] == pytest.approx(0.161, abs=1e-3)
