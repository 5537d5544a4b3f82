"""Inference on pictures of any size: in overlapping windows, or at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ConfigError
from midsight.tasks.features import fitting

Function = Callable[[Tensor], Tensor]  # images float (B, 3, H, W) -> float (B, K, h, w), over the same field of view


@dataclass(frozen=True)
class WindowConfig:
    """Square windows that cover a picture. The defaults are those of DINOv2's reference for ADE20K."""

    crop: int = 512  # pixels
    stride: int = 341

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.crop:
            raise ConfigError(f"stride must be from 1 to the crop, got crop {self.crop} and stride {self.stride}")


def slide(images: Tensor, function: Function, patch_size: int, config: WindowConfig) -> Tensor:
    """The mean over overlapping windows of what `function` makes of each.

    A picture that is smaller than a window is one window. The last window of a row or column is moved in, so that all
    have the same size.

    Args:
        images: float (B, 3, H, W), normalised.
        function: called with windows whose sides are multiples of the patch size.
        patch_size: of the encoder.

    Returns:
        float32 (B, K, H, W).

    Source: DINOv2's reference for ADE20K (crop 512, stride 341).
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    counts = images.new_zeros(1, 1, height, width)
    for rows in spans(height, config):
        for columns in spans(width, config):
            found = whole(images[..., rows, columns], function, patch_size)
            if total is None:
                total = found.new_zeros(*found.shape[:2], height, width)
            total[..., rows, columns] += found
            counts[..., rows, columns] += 1
    assert total is not None
    return total / counts.to(total)


def whole(images: Tensor, function: Function, patch_size: int) -> Tensor:
    """`function` of whole pictures, brought back to their size.

    Where a side is no multiple of the patch size, the picture is stretched to the nearest one first (512 becomes 518
    with patches of 14).

    Args:
        images: float (B, 3, H, W), normalised.

    Returns:
        float32 (B, K, H, W).
    """
    size = images.shape[-2], images.shape[-1]
    return enlarge(function(_fitted(images, patch_size)).float(), size)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) to (B, K, *size), bilinear."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def spans(length: int, config: WindowConfig) -> list[slice]:
    """Where windows lie along an axis."""
    crop = min(config.crop, length)
    count = -(-(length - crop) // config.stride) + 1
    starts = [min(k * config.stride, length - crop) for k in range(count)]
    return [slice(start, start + crop) for start in starts]


def _fitted(images: Tensor, patch_size: int) -> Tensor:
    size = fitting(images.shape[-2], patch_size), fitting(images.shape[-1], patch_size)
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
