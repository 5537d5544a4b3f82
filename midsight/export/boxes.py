"""Boxes of a whole batch in tensors of fixed shape, so that a trace can follow them for any number of pictures.

What NMS leaves differs from picture to picture. It is kept in one flat list for all pictures; only at the end each
picture gets a table of as many rows as there may be detections, the rows that are not used empty.
Letters: B pictures, N boxes of all pictures, D rows of a table.
"""

import math

import torch
from torch import Tensor

from midsight.tasks.detection.operators import ops

MOST = 2**31  # boxes that a trace reckons with, so that products of their number stay within int64
UNUSED = -1  # the label of a row that holds nothing; its score and its box are zero


def picture_sizes(images: Tensor) -> Tensor:
    """Rows and columns of each padded square (B, 3, S, S) that are picture, int64 (B, 2).

    Padding is zeros behind the normalisation, which whole lines of a picture are not.
    """
    painted = (images != 0).any(dim=1)  # B, S, S
    return torch.stack((_last(painted.any(dim=2)), _last(painted.any(dim=1))), dim=1)


def _last(lines: Tensor) -> Tensor:
    """How far the lines (B, S) reach that hold something, (B,)."""
    return (lines * torch.arange(1, lines.shape[1] + 1, device=lines.device)).amax(dim=1)


def corner_limits(sizes: Tensor) -> Tensor:
    """Rows and columns (B, 2) as what the corners x1, y1, x2, y2 may not exceed, float32 (B, 4)."""
    return sizes[:, [1, 0, 1, 0]].float()


def clip_to(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes cut to 0 and their limits; both (..., 4)."""
    return boxes.clamp(min=0).minimum(limits)


def first_of_each(
    boxes: Tensor, scores: Tensor, image: Tensor, label: Tensor, *, labels: int, side: float, threshold: float,
    limit: int, batch: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What NMS leaves within each label of each picture, and of that the best of each picture.

    Args:
        boxes, scores: (N, 4) within -side to 2 * side, and (N,).
        image, label: int64 (N,), below `batch` and `labels`.
        threshold: IoU.
        limit: most boxes of a picture.

    Returns:
        Indices (M,) of the boxes, best first, and the place (M,) of each in the table of `batch` times `limit` rows.
    """
    count, last = boxes.shape[0], batch * labels
    # torchvision tells a trace that NMS leaves two boxes or more: two of groups of their own make that true
    group = torch.cat((image * labels + label, torch.tensor([last, last + 1], device=boxes.device)))
    boxes = torch.cat((boxes, boxes.new_tensor([[0, 0, 1, 1]] * 2)))
    scores = torch.cat((scores, scores.new_full((2,), float("-inf"))))
    image = torch.cat((image, image.new_full((2,), batch)))
    kept = ops.nms(_apart(boxes, group, labels, side), scores, threshold)
    mine = image[kept]
    here = (mine[:, None] == torch.arange(batch, device=boxes.device)).long()  # M, B
    rank = (here.cumsum(dim=0) * here).sum(dim=1) - 1  # 0 for the best of its picture
    good = ((rank < limit) & (kept < count)).nonzero().squeeze(1)
    torch._check(good.shape[0] <= MOST)
    return kept[good], mine[good] * limit + rank[good]


def table(values: Tensor, place: Tensor, batch: int, limit: int, empty: float = 0) -> Tensor:
    """Values (M, ...) at their places of a table (batch, limit, ...)."""
    rows = values.new_full((batch * limit, *values.shape[1:]), empty)
    return rows.index_put((place,), values).unflatten(0, (batch, limit))


def _apart(boxes: Tensor, group: Tensor, labels: int, side: float) -> Tensor:
    """Boxes moved so that those of different groups never meet.

    They are moved along both axes: numbers stay small, and float32 keeps their fractions.
    """
    columns, step = math.isqrt(labels) + 1, 3 * side + 1
    x, y = (group % columns) * step, (group // columns) * step
    return boxes + torch.stack((x, y, x, y), dim=1).to(boxes.dtype)
