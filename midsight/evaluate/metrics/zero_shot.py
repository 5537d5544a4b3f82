"""Zero-shot figures as the published evaluation computes them (PE paper, B.1.2): shares between 0 and 1."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from midsight.errors import InputError, ShapeError


def classification(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Accuracy and mean recall.

    Args:
        logits: float (N, classes).
        targets: integer (N,), the right class of each row.

    Returns:
        "acc1"; "acc5", which is nan below five classes; "mean_per_class_recall", over the classes that have targets.

    Raises:
        ShapeError: logits and targets do not fit.
        InputError: no rows, or a target outside the classes.
    """
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ShapeError(
            f"expected logits (N, classes), targets (N,); got {tuple(logits.shape)}, {tuple(targets.shape)}"
        )
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ShapeError(f"targets are class indices and must be integers, got {targets.dtype}")
    if not len(targets):
        raise InputError("there is nothing to measure: no rows")
    classes = logits.shape[1]
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise InputError(
            f"targets run from {int(targets.min())} to {int(targets.max())}, but there are {classes} classes"
        )
    targets = targets.to(logits.device).long()
    first = logits.argmax(dim=1) == targets
    counts = torch.bincount(targets, minlength=classes).double()
    hits = torch.bincount(targets[first], minlength=classes).double()
    present = counts > 0
    return {
        "acc1": first.double().mean().item(),
        "acc5": _in_first(logits, targets, 5) if classes >= 5 else float("nan"),
        "mean_per_class_recall": (hits[present] / counts[present]).mean().item(),
    }


def retrieval(
    scores: Tensor, positives: Tensor, k: Sequence[int] = (1, 5, 10), dual_softmax: bool = True
) -> dict[str, float]:
    """Recall at k in both directions: the share of queries with any positive among their first k.

    Args:
        scores: float (texts, media).
        positives: bool (texts, media), which pairs belong together; a query without a positive is a miss.
        k: how many results count; all of them where there are fewer.
        dual_softmax: weigh the scores by their softmax over the queries first, as published.

    Returns:
        "image_retrieval_recall@K", where each text looks for its media, and "text_retrieval_recall@K", where each media
        looks for its texts.

    Raises:
        ShapeError: scores and positives do not fit.
        InputError: an empty matrix, or a k below 1.
    """
    if scores.ndim != 2 or positives.shape != scores.shape or positives.dtype != torch.bool:
        shapes = f"{tuple(scores.shape)} and {positives.dtype} {tuple(positives.shape)}"
        raise ShapeError(f"expected float scores (texts, media) and bool positives of the same shape, got {shapes}")
    if not scores.numel():
        raise InputError(f"there is nothing to measure: scores are {tuple(scores.shape)}")
    if not k or min(k) < 1:
        raise InputError(f"k must be whole numbers of at least 1, got {tuple(k)}")
    positives = positives.to(scores.device)
    figures = {}
    for direction, table, truth in (("image", scores, positives), ("text", scores.T, positives.T)):
        weighted = table * table.softmax(dim=0) if dual_softmax else table
        found = truth.gather(1, weighted.topk(min(max(k), table.shape[1]), dim=1).indices)
        for first in k:
            figures[f"{direction}_retrieval_recall@{first}"] = found[:, :first].any(dim=1).double().mean().item()
    return figures


def interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` independent trials (Wilson)."""
    z2 = 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _in_first(logits: Tensor, targets: Tensor, k: int) -> float:
    return (logits.topk(k, dim=1).indices == targets[:, None]).any(dim=1).double().mean().item()
