"""Losses of depth, in the logarithm of metres.

Source: DINOv2's reference for NYU: scale-invariant log loss and half the multi-scale gradient loss. Its settings beyond
these two weights (the mean counts 0.15 in the first, steps of two pixels and four scales in the second) are those of
the toolbox that it uses.
"""

import torch
from torch import Tensor

from midsight.errors import ShapeError
from midsight.tasks.windows import enlarge

MEAN_SHARE = 0.15  # of the squared mean; with 0 a common factor would cost nothing
EPS = 1e-3  # metres
SCALES = 4
GRADIENT_WEIGHT = 0.5


def depth_loss(predicted: Tensor, truth: Tensor, gradient_weight: float = GRADIENT_WEIGHT) -> Tensor:
    """Scale-invariant log loss + `gradient_weight` x gradient loss, at the size of the truth.

    Args:
        predicted: float (B, 1, h, w), metres.
        truth: float (B, H, W), metres; 0 where nothing is known.

    Returns:
        A scalar; 0 where nothing is known at all.

    Raises:
        ShapeError: shapes that do not fit.
    """
    if predicted.ndim != 4 or predicted.shape[1] != 1 or truth.ndim != 3 or len(predicted) != len(truth):
        raise ShapeError(
            f"expected depth (B, 1, h, w) and truth (B, H, W), got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    large = enlarge(predicted.float(), (truth.shape[1], truth.shape[2]))[:, 0]
    loss = scale_invariant_log_loss(large, truth)
    return loss + gradient_weight * gradient_loss(large, truth) if gradient_weight else loss


def scale_invariant_log_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Square root of the variance of the log ratio plus 0.15 of its squared mean, over all pixels that are known.

    Args:
        predicted, truth: float (B, H, W), metres; truth is 0 where nothing is known.
    """
    known = truth > 0
    ratio = (torch.log(predicted + EPS) - torch.log(truth + EPS))[known]
    if ratio.numel() < 2:
        return predicted.sum() * 0
    return torch.sqrt(ratio.var() + MEAN_SHARE * ratio.mean().square() + 1e-12)


def gradient_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean difference of the slopes of log depth, two pixels apart, at full size and three times halved.

    Args:
        predicted, truth: float (B, H, W), metres; truth is 0 where nothing is known.
    """
    known = truth > 0
    ratio = torch.where(known, torch.log(predicted + EPS) - torch.log(truth.clamp_min(0) + EPS), 0.0)
    total = predicted.new_zeros(())
    for scale in range(SCALES):
        step = 2**scale
        total = total + _slopes(ratio[:, ::step, ::step], known[:, ::step, ::step])
    return total


def _slopes(ratio: Tensor, known: Tensor) -> Tensor:
    """Sum of the absolute slopes along both axes, over the number of known pixels."""
    down = (ratio[:, 2:] - ratio[:, :-2]).abs() * (known[:, 2:] & known[:, :-2])
    across = (ratio[:, :, 2:] - ratio[:, :, :-2]).abs() * (known[:, :, 2:] & known[:, :, :-2])
    return (down.sum() + across.sum()) / known.sum().clamp_min(1)
