"""Random crops, jitter and flips of training images, repeatable for each sample.

Published: aspect ratio (0.75, 1.33), area (0.08, 1), brightness and saturation 0.32, no contrast and no hue, flip 0.5.
Not published, and chosen here: the ratio is drawn on a logarithmic scale; the factors of brightness and saturation are
drawn evenly from 1 - 0.32 to 1 + 0.32 and applied in that order; frames of a clip share one draw.

Source: PE paper, section 2.1 and tables 18 and 19.
"""

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError
from midsight.images import DEFAULT_LIMITS, Limits, Pixels, load_image
from midsight.transforms.image import ImageTransform, resize_pixels

GREY = (0.299, 0.587, 0.114)  # weights of R, G and B in ITU-R BT.601 luma


@dataclass(frozen=True)
class AugmentConfig:
    """How much training images vary. The defaults are published."""

    aspect: tuple[float, float] = (0.75, 1.33)  # width / height of the crop, relative to the picture's pixels
    area: tuple[float, float] = (0.08, 1.0)  # share of the picture
    brightness: float = 0.32
    saturation: float = 0.32
    flip: float = 0.5  # probability

    def __post_init__(self) -> None:
        for name in ("aspect", "area"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))  # lists come from TOML
            if not 0 < low <= high or (name == "area" and high > 1):
                raise ConfigError(f"augment.{name} must be a range above 0 (area: at most 1), got {(low, high)}")
        for name in ("brightness", "saturation", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} must be from 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Draw:
    """One outcome of the dice, without the picture's size: enough to treat all frames of a clip alike."""

    area: float
    aspect: float
    top: float  # 0 to 1, of the room that is left
    left: float
    brightness: float  # factors
    saturation: float
    flip: bool


def draw(config: AugmentConfig, seed: int, key: str) -> Draw:
    """The draw of a sample: decided by seed (take another for each epoch) and key, not by the order of reading."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    dice = random.Random(int.from_bytes(digest, "big"))
    return Draw(
        area=dice.uniform(*config.area),
        aspect=math.exp(dice.uniform(math.log(config.aspect[0]), math.log(config.aspect[1]))),
        top=dice.random(),
        left=dice.random(),
        brightness=dice.uniform(1 - config.brightness, 1 + config.brightness),
        saturation=dice.uniform(1 - config.saturation, 1 + config.saturation),
        flip=dice.random() < config.flip,
    )


def crop_box(height: int, width: int, drawn: Draw) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the crop, pixels. What does not fit is cut to the picture, at least one pixel."""
    area = height * width * drawn.area
    wide = min(width, max(1, round(math.sqrt(area * drawn.aspect))))
    high = min(height, max(1, round(math.sqrt(area / drawn.aspect))))
    return round((height - high) * drawn.top), round((width - wide) * drawn.left), high, wide


def jitter(pixels: Tensor, drawn: Draw) -> Tensor:
    """uint8 (..., 3, H, W) of the same shape: brightness times a factor, then saturation about each pixel's grey."""
    x = (pixels.float() * drawn.brightness).clamp_(0, 255)
    weights = torch.tensor(GREY).view(3, 1, 1)
    grey = (x * weights).sum(dim=-3, keepdim=True)
    return torch.lerp(grey.expand_as(x), x, drawn.saturation).clamp_(0, 255).round_().to(torch.uint8)


@dataclass(frozen=True)
class TrainTransform:
    """A picture or clip becomes a varied training input. Safe to use from several threads, and to pickle."""

    preprocess: PreprocessConfig
    augment: AugmentConfig | None = AugmentConfig()  # None: the transform of inference
    seed: int = 0
    limits: Limits = DEFAULT_LIMITS

    def __call__(self, source: Any, key: str = "") -> Tensor:
        """float32 (3, S, S), normalised.

        Args:
            source: anything that `load_image` takes.
            key: names the sample; the same key and seed give the same pixels.

        Raises:
            MediaError: the source cannot be read, or is beyond the limits.
        """
        plain = ImageTransform(self.preprocess, self.limits)
        if self.augment is None:
            return plain(source)
        return plain.normalize(self.varied(load_image(source, limits=self.limits), draw(self.augment, self.seed, key)))

    def clip(self, frames: Pixels, key: str = "") -> Tensor:
        """uint8 (T, H, W, 3) to float32 (T, 3, S, S): one draw for all frames."""
        plain = ImageTransform(self.preprocess, self.limits)
        if self.augment is None:
            return torch.stack([plain(frame) for frame in frames])
        drawn = draw(self.augment, self.seed, key)
        return plain.normalize(torch.stack([self.varied(frame, drawn) for frame in frames]))

    def varied(self, image: Pixels, drawn: Draw) -> Tensor:
        """uint8 (H, W, 3) to uint8 (3, S, S) under one draw."""
        top, left, high, wide = crop_box(image.shape[0], image.shape[1], drawn)
        size = self.preprocess.image_size
        crop = image[top : top + high, left : left + wide]
        pixels = jitter(resize_pixels(crop, size, size, self.preprocess.interpolation), drawn)
        return pixels.flip(-1) if drawn.flip else pixels
