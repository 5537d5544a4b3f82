"""What a detector learns from: the objects of one picture."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from midsight.errors import ShapeError


@dataclass(frozen=True)
class Target:
    """The objects of one picture.

    Attributes:
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of the picture as the detector sees it.
        labels: int64 (N,), from 0 to below the number of classes.
        masks: bool (N, H, W) of that picture; None where only boxes are known.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.boxes.shape != (count, 4) or self.labels.ndim != 1:
            raise ShapeError(f"boxes {tuple(self.boxes.shape)} and labels {tuple(self.labels.shape)}: (N, 4) and (N,)")
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != count):
            raise ShapeError(f"masks are {tuple(self.masks.shape)}, expected ({count}, H, W)")

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, keep: Tensor) -> Self:
        """Some of the objects, by a mask or by indices."""
        masks = None if self.masks is None else self.masks[keep]
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], masks=masks)

    def to(self, device: torch.device) -> Self:
        masks = None if self.masks is None else self.masks.to(device)
        return replace(self, boxes=self.boxes.to(device), labels=self.labels.to(device), masks=masks)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """The extent of each mask, float32 (N, 4), ends exclusive; zeros where a mask is empty."""
    rows, columns = masks.any(dim=2), masks.any(dim=1)  # N, H and N, W
    first_last = []
    for line in (columns, rows):
        first, last = line.float().argmax(dim=1), line.shape[1] - line.flip(1).float().argmax(dim=1)
        first_last.append((first, last))
    (x1, x2), (y1, y2) = first_last
    boxes = torch.stack((x1, y1, x2, y2), dim=1).float()
    return boxes * masks.flatten(1).any(dim=1)[:, None]
