"""The training transform for a whole batch at once, on any device: the draws of `augment`, its crops, its jitter.

For pictures that are in memory already, squashed to squares of one size. Pixels agree with `TrainTransform` on the same
squares to a rounding (a level or two of 255): resizing rounds once here, and twice there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError, ShapeError
from midsight.transforms.augment import GREY, AugmentConfig, Draw, crop_box, draw
from midsight.transforms.image import ImageTransform

Box = tuple[int, int, int, int]  # top, left, height, width, pixels


@dataclass(frozen=True)
class BatchTransform:
    """Squares of pixels become varied training inputs."""

    preprocess: PreprocessConfig
    augment: AugmentConfig | None = AugmentConfig()  # None: the transform of inference
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preprocess.interpolation != "bilinear":
            raise ConfigError(f"batches are resized bilinearly, got {self.preprocess.interpolation!r}")

    def __call__(self, pixels: Tensor, keys: Sequence[str] = ()) -> Tensor:
        """uint8 (B, 3, P, P) to float32 (B, 3, S, S), normalised, on the same device.

        Args:
            pixels: the whole pictures.
            keys: name the samples, as in `TrainTransform`; not needed without augmentation.

        Raises:
            ShapeError: `pixels` are not uint8 (B, 3, P, P), or there is not one key for each.
        """
        if pixels.ndim != 4 or pixels.dtype != torch.uint8 or pixels.shape[1] != 3:
            raise ShapeError(f"pixels must be uint8 (B, 3, P, P), got {pixels.dtype} {tuple(pixels.shape)}")
        size, high, wide = self.preprocess.image_size, pixels.shape[2], pixels.shape[3]
        plain = ImageTransform(self.preprocess)
        if self.augment is None:
            return plain.normalize(resize_crops(pixels, [(0, 0, high, wide)] * len(pixels), size))
        if len(keys) != len(pixels):
            raise ShapeError(f"one key for each picture: got {len(keys)} for {len(pixels)}")
        draws = [draw(self.augment, self.seed, key) for key in keys]
        crops = resize_crops(pixels, [crop_box(high, wide, drawn) for drawn in draws], size)
        return plain.normalize(vary(crops, draws))


def resize_crops(pixels: Tensor, boxes: Sequence[Box], size: int) -> Tensor:
    """One crop of each picture, resized to a square, antialiased.

    Args:
        pixels: uint8 (B, 3, H, W).
        boxes: a crop for each, inside the picture.
        size: S, pixels.

    Returns:
        float32 (B, 3, S, S) of whole numbers from 0 to 255.
    """
    # resizing is linear along each side, so it is two products with small matrices of weights
    top, left, high, wide = torch.tensor(boxes, dtype=torch.float32, device=pixels.device).unbind(1)
    down = _weights(top, high, pixels.shape[2], size)[:, None]  # B, 1, S, H
    right = _weights(left, wide, pixels.shape[3], size)[:, None]  # B, 1, S, W
    return (down @ pixels.float() @ right.mT).round_()


def _weights(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """What each of `pixels` adds to each of `size` new ones, (B, size, pixels): a triangle over the crop's scale."""
    scale = (length / size)[:, None, None]
    centres = (torch.arange(size, device=start.device)[:, None] + 0.5) * scale  # B, S, 1; within the crop
    places = torch.arange(pixels, device=start.device) + 0.5 - start[:, None, None]  # B, 1, P
    weights = (1 - (places - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((places > 0) & (places < length[:, None, None]))
    return weights / weights.sum(-1, keepdim=True)


def vary(crops: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Brightness, saturation and flips of each draw, as `augment.jitter`; float32 (B, 3, S, S) of whole numbers."""
    figures = torch.tensor([(d.brightness, d.saturation, d.flip) for d in draws], device=crops.device)
    brightness, saturation, flip = figures[:, :, None, None, None].unbind(1)  # B, 1, 1, 1 each
    x = (crops * brightness).clamp_(0, 255)
    grey = (x * torch.tensor(GREY, device=x.device).view(3, 1, 1)).sum(dim=1, keepdim=True)
    x = torch.lerp(grey.expand_as(x), x, saturation.expand_as(x)).clamp_(0, 255).round_()
    return torch.where(flip > 0, x.flip(-1), x)
