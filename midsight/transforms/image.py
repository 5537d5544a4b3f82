"""Pixels to tensors: the published image transform, on any source of pictures. No torchvision.

Resizing is torch's antialiased interpolation on uint8, which rounds like Pillow's; the difference and the speed
stand in benchmarks/RESULTS.md, "JPEG to tensor".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import MediaError
from midsight.images import DEFAULT_LIMITS, Limits, Pixels, Scratch, describe, load_image


def get_image_transform(
    image_size: int,
    center_crop: bool = False,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> "ImageTransform":
    """The published image transform.

    Args:
        image_size: side of the square, pixels.
        center_crop: resize the shorter side to `image_size` and cut out the centre; else squash to the square.
        interpolation: of the resize, antialiased; the published encoders use bilinear.
        mean, std: per channel, RGB, of values in [0, 1].

    Returns:
        A callable: any source that `midsight.images.load_image` takes -> float32 (3, image_size, image_size).

    Raises:
        ConfigError: a size below 1, or an unknown interpolation.

    Source: PE paper, B.1.1.
    """
    resize: Literal["squash", "center_crop"] = "center_crop" if center_crop else "squash"
    three = tuple(float(m) for m in mean), tuple(float(s) for s in std)
    return from_config(PreprocessConfig(image_size, resize, interpolation, *three))  # type: ignore[arg-type]


def from_config(
    config: PreprocessConfig, *, limits: Limits = DEFAULT_LIMITS, reduced_decoding: bool = False
) -> "ImageTransform":
    """The transform that a checkpoint was trained with.

    Args:
        config: saved beside the weights.
        limits: most pixels and bytes of a source.
        reduced_decoding: decode large JPEGs at a fraction of their size, at least twice the target; see `load_image`
            for what it changes.
    """
    return ImageTransform(config, limits, reduced_decoding)


@dataclass(frozen=True)
class ImageTransform:
    """A picture becomes what the encoder was trained on. Safe to use from several threads, and to pickle."""

    config: PreprocessConfig
    limits: Limits = DEFAULT_LIMITS
    reduced_decoding: bool = False
    on_size: Callable[[int, int], None] | None = None  # told width and height of each picture before it is resized

    def __call__(self, source: Any) -> Tensor:
        """float32 (3, S, S), normalised.

        Raises:
            MediaError: the source cannot be read, or is beyond the limits.
            ShapeError, InputError: the source is no picture at all; see `load_image`.
        """
        return self.normalize(self.pixels(source))

    def pixels(self, source: Any, scratch: Scratch | None = None) -> Tensor:
        """uint8 (3, S, S), resized and not yet normalised; for those who normalise a whole batch, or on a GPU.

        Args:
            scratch: memory for the decoded picture; the result does not share it.
        """
        reduced_to = self.config.image_size if self.reduced_decoding else None
        image = load_image(source, limits=self.limits, reduced_to=reduced_to, scratch=scratch)
        if self.on_size is not None:
            self.on_size(image.shape[1], image.shape[0])
        return self._resize(image, describe(source))

    def normalize(self, pixels: Tensor, out: Tensor | None = None) -> Tensor:
        """uint8 (..., 3, S, S) to float32 of the same shape, (x / 255 - mean) / std.

        Args:
            pixels: on any device.
            out: where to put the result, float32 of the same shape.
        """
        if out is None:
            out = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
        scale = [1 / (255 * s) for s in self.config.std]
        shift = [-m / s for m, s in zip(self.config.mean, self.config.std, strict=True)]
        out.copy_(pixels)
        if len(set(scale)) == len(set(shift)) == 1:
            return out.mul_(scale[0]).add_(shift[0])
        as_tensor = [torch.tensor(v, dtype=torch.float32, device=out.device).view(3, 1, 1) for v in (scale, shift)]
        return out.mul_(as_tensor[0]).add_(as_tensor[1])

    def _resize(self, image: Pixels, name: str) -> Tensor:
        size = self.config.image_size
        height, width = image.shape[:2]
        if self.config.resize == "center_crop":
            height, width = shorter_side_to(height, width, size)
            if height * width > self.limits.max_pixels:
                raise MediaError(
                    f"{name}: {image.shape[1]}x{image.shape[0]} is too narrow: with its shorter side at {size} it "
                    f"would have {height * width} pixels, the limit is {self.limits.max_pixels}. Squash it instead."
                )
        else:
            height = width = size
        resized = resize_pixels(image, height, width, self.config.interpolation)
        # Python rounds half to even, and so does the published crop
        top, left = round((height - size) / 2.0), round((width - size) / 2.0)
        return resized[:, top : top + size, left : left + size]


def shorter_side_to(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `size` and the longer one cut off to a whole number."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize_pixels(
    image: Pixels, height: int, width: int, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """uint8 (H, W, 3) to uint8 (3, height, width), antialiased; shares no memory with `image`."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if image.shape[:2] == (height, width):
        return pixels.clone()
    resized = F.interpolate(pixels.unsqueeze(0), size=(height, width), mode=interpolation, antialias=True)
    return resized.squeeze(0)
