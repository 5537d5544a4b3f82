"""Large-scale jitter: a picture and its objects at a random scale, cut or padded to the detector's square.

Published: scale 0.1 to 2.0 of the square, flip 0.5, crop at a random place, boxes taken anew from the masks.

Sources: Simple Copy-Paste (arXiv 2012.07177), section 3; ViTDet (arXiv 2203.16527), appendix A.2.
"""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from midsight.errors import ConfigError
from midsight.images import Pixels
from midsight.tasks.detection.boxes import clip, has_area
from midsight.tasks.detection.preprocess import Size, resize
from midsight.tasks.detection.targets import Target, boxes_of_masks


@dataclass(frozen=True)
class JitterConfig:
    """How much pictures vary; the defaults are published. Scale (1, 1) and no flip are the transform of inference."""

    scale: tuple[float, float] = (0.1, 2.0)  # of the square's side
    flip: float = 0.5  # probability

    def __post_init__(self) -> None:
        low, high = self.scale
        object.__setattr__(self, "scale", (float(low), float(high)))  # lists come from TOML
        if not 0 < low <= high:
            raise ConfigError(f"augment.scale must be a range above 0, got {(low, high)}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"augment.flip must be from 0 to 1, got {self.flip}")


@dataclass(frozen=True)
class Jitter:
    """One outcome of the dice."""

    scale: float
    flip: bool
    top: float  # 0 to 1, of the room that is left
    left: float


def draw(config: JitterConfig, seed: int, key: str) -> Jitter:
    """The draw of a sample: decided by seed and key alone."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    dice = random.Random(int.from_bytes(digest, "big"))
    return Jitter(dice.uniform(*config.scale), dice.random() < config.flip, dice.random(), dice.random())


def large_scale_jitter(image: Pixels, target: Target, side: int, drawn: Jitter) -> tuple[Tensor, Target]:
    """A picture and its objects under one draw.

    Args:
        image: uint8 (H, W, 3).
        target: boxes and masks in the picture's own pixels.
        side: of the detector's square, pixels.

    Returns:
        uint8 (3, h, w), at most `side` high and wide, not padded; the objects that are left in it. Boxes follow from
        the masks where there are masks.
    """
    size = scaled_size((image.shape[0], image.shape[1]), side * drawn.scale)
    pixels, target = resize(image, size), resize_target(target, (image.shape[0], image.shape[1]), size)
    if drawn.flip:
        pixels, target = pixels.flip(-1), flip_target(target, size[1])
    height, width = min(side, size[0]), min(side, size[1])
    top, left = round((size[0] - height) * drawn.top), round((size[1] - width) * drawn.left)
    cut = pixels[:, top : top + height, left : left + width]
    return cut.contiguous(), crop_target(target, top, left, (height, width))


def scaled_size(size: Size, longest: float) -> Size:
    """(height, width) with the longer side at `longest` pixels, rounded, at least one."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_target(target: Target, old: Size, new: Size) -> Target:
    """Objects of a picture of (height, width) `old` at the size `new`; masks take the nearest pixel."""
    y, x = new[0] / old[0], new[1] / old[1]
    boxes = target.boxes * target.boxes.new_tensor((x, y, x, y))
    if target.masks is None:
        return Target(boxes, target.labels)
    return Target(boxes, target.labels, _resize_masks(target.masks, new))


def _resize_masks(masks: Tensor, size: Size) -> Tensor:
    height, width = size
    resized = torch.zeros(len(masks), height, width, dtype=torch.bool)
    for index, mask in enumerate(masks):
        image = Image.fromarray(mask.numpy().view(np.uint8))
        resized[index] = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.NEAREST)) > 0)
    return resized


def flip_target(target: Target, width: int) -> Target:
    """Objects of the mirrored picture."""
    x1, y1, x2, y2 = target.boxes.unbind(dim=1)
    boxes = torch.stack((width - x2, y1, width - x1, y2), dim=1)
    return Target(boxes, target.labels, None if target.masks is None else target.masks.flip(-1))


def crop_target(target: Target, top: int, left: int, size: Size) -> Target:
    """The objects of which something lies in a window of (height, width) `size`, cut to it."""
    height, width = size
    boxes = clip(target.boxes - target.boxes.new_tensor((left, top, left, top)), size)
    keep = has_area(boxes)
    masks = target.masks
    if masks is not None:
        masks = masks[:, top : top + height, left : left + width]
        boxes = boxes_of_masks(masks)
        keep = has_area(boxes)
    return Target(boxes, target.labels, masks).pick(keep)
