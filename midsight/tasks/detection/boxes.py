"""Boxes as arithmetic: deltas and back, clipping, scaling. Corners x1, y1, x2, y2 in pixels unless said otherwise.

Source: Faster R-CNN (arXiv 1506.01497), equation 2, and detectron2's conventions.
"""

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # a box grows at most so much in one step
Weights = tuple[float, float, float, float]


def decode(deltas: Tensor, boxes: Tensor, weights: Weights) -> Tensor:
    """Boxes moved by predicted deltas.

    Args:
        deltas: (N, K, 4), K predictions (dx, dy, dw, dh) for each box.
        boxes: (N, 4).
        weights: what the deltas are divided by.

    Returns:
        (N, K, 4).
    """
    boxes = boxes.to(deltas.dtype)
    size = (boxes[:, 2:] - boxes[:, :2])[:, None]  # N, 1, 2
    centre = boxes[:, None, :2] + 0.5 * size
    shift, scale = (deltas / deltas.new_tensor(weights)).split(2, dim=-1)
    centre = shift * size + centre
    half = 0.5 * scale.clamp(max=MAX_LOG_SCALE).exp() * size
    return torch.cat((centre - half, centre + half), dim=-1)


def encode(targets: Tensor, boxes: Tensor, weights: Weights) -> Tensor:
    """The deltas (N, 4) that `decode` turns into `targets` (N, 4)."""
    size, wanted = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + 0.5 * wanted - boxes[:, :2] - 0.5 * size) / size
    return torch.cat((shift, (wanted / size).log()), dim=1) * boxes.new_tensor(weights)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut to a picture of (height, width)."""
    height, width = size
    limits = boxes.new_tensor((width, height, width, height))
    return boxes.clamp(min=0).minimum(limits)


def has_area(boxes: Tensor) -> Tensor:
    """Which of the boxes (N, 4) are wider and higher than nothing."""
    return ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)


def rescale(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Boxes of a picture of (height, width) `old` on the same picture at `new`."""
    y, x = new[0] / old[0], new[1] / old[1]
    return boxes * boxes.new_tensor((x, y, x, y))
