"""Which anchor, proposal or query answers for which object.

Sources: Faster R-CNN (arXiv 1506.01497), section 3.1.2; DETA (arXiv 2212.06137), section 3. Letters: G objects, N
predictions.
"""

import torch
from torch import Tensor

IGNORED, NEGATIVE, POSITIVE = -1, 0, 1


def match(overlap: Tensor, low: float, high: float, low_quality: bool) -> tuple[Tensor, Tensor]:
    """Each prediction to the object that it overlaps most.

    Args:
        overlap: IoU (G, N).
        low, high: below `low` a prediction is negative, from `high` on positive, ignored between.
        low_quality: the best predictions of every object are positive, however little they overlap, if at all.

    Returns:
        The object of each prediction, int64 (N,), and what it is, int64 (N,): 1 positive, 0 negative, -1 ignored.
    """
    if len(overlap) == 0:
        nothing = torch.zeros(overlap.shape[1], dtype=torch.int64, device=overlap.device)
        return nothing, nothing.clone()
    best, index = overlap.max(dim=0)
    kind = torch.full_like(index, IGNORED)
    kind[best < low] = NEGATIVE
    kind[best >= high] = POSITIVE
    if low_quality:
        most = overlap.amax(dim=1, keepdim=True)
        kind[((overlap == most) & (most > 0)).any(dim=0)] = POSITIVE
    return index, kind


def sample(kind: Tensor, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """A random choice: at most `positive_share` of `count` positives, and negatives up to `count` in all.

    Args:
        kind: (N,), of `match`.

    Returns:
        Indices of the positives and of the negatives.
    """
    positive, negative = (kind == POSITIVE).nonzero().squeeze(1), (kind == NEGATIVE).nonzero().squeeze(1)
    positive = _some(positive, int(count * positive_share))
    return positive, _some(negative, count - len(positive))


def _some(index: Tensor, count: int) -> Tensor:
    if len(index) <= count:
        return index
    return index[torch.randperm(len(index))[:count].to(index.device)]


def best_of_each(prediction: Tensor, target: Tensor, overlap: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """At most `limit` predictions for each object, those that overlap it most.

    Args:
        prediction, target: indices (M,) of matched pairs.
        overlap: IoU (G, N).
    """
    order = overlap[target, prediction].argsort(descending=True, stable=True)
    prediction, target = prediction[order], target[order]
    same = target[:, None] == target
    rank = same.tril().sum(dim=1)  # 1 for an object's best prediction
    return prediction[rank <= limit], target[rank <= limit]
