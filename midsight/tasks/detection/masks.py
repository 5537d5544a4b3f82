"""Small masks of boxes pasted into whole pictures.

Source: detectron2's `paste_masks_in_image`.
"""

import math

import torch
from torch import Tensor

from midsight.tasks.detection.preprocess import Size

THRESHOLD = 0.5


def paste(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Masks of boxes as masks of the picture.

    Every pixel centre takes the value of its place in the box, bilinear, with zeros around the mask; a pixel belongs
    to the object from 0.5 on. Beyond the box's edge such a value stays below half of the mask's, so only the box's own
    rectangle of pixels is looked at.

    Args:
        masks: probabilities (N, M, M).
        boxes: (N, 4), pixels of the picture, not empty.
        size: (height, width) of the picture.

    Returns:
        bool (N, height, width).
    """
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    for target, mask, (x1, y1, x2, y2) in zip(pasted, masks, boxes.tolist(), strict=True):
        top, bottom = max(0, math.floor(y1)), min(height, math.ceil(y2))
        left, right = max(0, math.floor(x1)), min(width, math.ceil(x2))
        rows = interpolation(top, bottom, y1, y2, mask)  # pixels, M
        columns = interpolation(left, right, x1, x2, mask)
        target[top:bottom, left:right] = rows @ mask @ columns.T >= THRESHOLD
    return pasted


def interpolation(first: int, last: int, low: float, high: float, mask: Tensor) -> Tensor:
    """Weights (pixels, M) of a mask's cells at the centres of the pixels `first` to `last` (not counted) of one axis.

    The mask's M cells lie evenly between `low` and `high`.
    """
    cells = mask.shape[-1]
    centres = torch.arange(first, last, device=mask.device, dtype=torch.float32) + 0.5
    at = (centres - low) / (high - low) * cells - 0.5  # in cells, their centres being whole numbers
    distance = (at[:, None] - torch.arange(cells, device=mask.device)).abs()
    return (1 - distance).clamp(min=0).to(mask.dtype)
