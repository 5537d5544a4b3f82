"""The loss of segmentation."""

import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ShapeError
from midsight.tasks.windows import enlarge

IGNORE = 255


def cross_entropy(logits: Tensor, labels: Tensor, ignore: int = IGNORE) -> Tensor:
    """Mean over all pixels that count, with the logits brought to the size of the labels.

    Args:
        logits: float (B, classes, h, w).
        labels: integer (B, H, W); `ignore` does not count.

    Returns:
        A scalar; 0 where no pixel counts.

    Raises:
        ShapeError: logits and labels that do not fit.
    """
    if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels) or labels.is_floating_point():
        raise ShapeError(
            f"expected logits (B, classes, h, w) and integer labels (B, H, W), got {tuple(logits.shape)} and "
            f"{labels.dtype} {tuple(labels.shape)}"
        )
    large = enlarge(logits.float(), (labels.shape[1], labels.shape[2]))
    total = F.cross_entropy(large, labels.long(), ignore_index=ignore, reduction="sum")
    return total / (labels != ignore).sum().clamp_min(1)
