"""Pictures to a batch of padded squares, as the published detectors saw them: Pillow's bilinear resize, then zeros.

Sources: the published data loaders (`apps/detection`) and detectron2's ResizeShortestEdge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from midsight.errors import InputError
from midsight.images import load_image

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std of values from 0 to 255, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (3, H, W) to float32."""
        mean, std = (torch.tensor(v, dtype=torch.float32, device=pixels.device) for v in (self.mean, self.std))
        return (pixels.float() - mean[:, None, None]) / std[:, None, None]


MASK_RCNN_PIXELS = Normalization((127.0, 127.0, 127.0), (127.0, 127.0, 127.0))
DETA_PIXELS = Normalization((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


@dataclass(frozen=True)
class Batch:
    """Pictures ready for a detector."""

    pixels: Tensor  # float32 (N, 3, S, S), normalised, zeros at the right and at the bottom
    resized: list[Size]  # what of each square is picture
    original: list[Size]


def make_batch(
    images: Sequence[Any],
    side: int,
    size_of: Callable[[Size], Size],
    normalize: Normalization,
    device: torch.device,
) -> Batch:
    """
    Args:
        images: uint8 RGB tensors (3, H, W) of any sizes, or anything else that `load_image` takes.
        side: of the padded square, pixels.
        size_of: original to resized (height, width).

    Raises:
        InputError: a single picture instead of a list, or no picture.
        MediaError, ShapeError: as `load_image`.
    """
    if isinstance(images, Tensor | str) or not isinstance(images, Sequence) or not images:
        found = f"a single {type(images).__name__}" if not isinstance(images, Sequence) or images else "an empty list"
        raise InputError(f"expected a list of pictures, uint8 RGB tensors (3, H, W) or files; got {found}")
    pixels = [load_image(image) for image in images]
    original = [(p.shape[0], p.shape[1]) for p in pixels]
    resized = [size_of(size) for size in original]
    squares = [pad(normalize(resize(p, size)), side) for p, size in zip(pixels, resized, strict=True)]
    return Batch(torch.stack(squares).to(device), resized, original)


def resize(pixels: np.ndarray[Any, Any], size: Size) -> Tensor:
    """uint8 (H, W, 3) to uint8 (3, height, width) with Pillow's bilinear filter, as published."""
    height, width = size
    image = (
        pixels
        if pixels.shape[:2] == size
        else Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def pad(image: Tensor, side: int) -> Tensor:
    """(3, H, W) to (3, side, side) with zeros at the right and at the bottom."""
    return F.pad(image, (0, side - image.shape[-1], 0, side - image.shape[-2]))


def longest_side_size(size: Size, side: int) -> Size:
    """(height, width) with the longer side at `side`, both rounded half up: the rule of Mask R-CNN."""
    height, width = size
    scale = side / min(height, width)
    high, wide = (float(side), scale * width) if height < width else (scale * height, float(side))
    if max(high, wide) > side:
        scale = side / max(high, wide)
        high, wide = high * scale, wide * scale
    return max(1, int(high + 0.5)), max(1, int(wide + 0.5))


def shorter_side_size(size: Size, longest: int) -> Size:
    """(height, width) with the longer side at most `longest`: the rule of DETA, which cuts off where the other rounds.

    The longer side may come out a pixel short.
    """
    height, width = size
    short, long = min(size), max(size)
    target = longest
    if long / short * target > longest:
        target = int(round(longest * short / long))
    target = max(1, target)
    if short == target:
        return size
    if width < height:
        return max(1, int(target * height / width)), target
    return target, max(1, int(target * width / height))
