"""Classes for every pixel of a picture."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from midsight.errors import ConfigError, MediaError
from midsight.images import Pixels, describe, load_image
from midsight.tasks.features import DenseEncoder
from midsight.tasks.windows import WindowConfig, enlarge, slide, whole
from midsight.transforms.image import shorter_side_to

MAX_PIXELS = 20_000_000  # of a scaled picture: its logits of 150 classes take 12 GB


@dataclass(frozen=True)
class SegmentConfig:
    """How pictures are looked at. The defaults are those of DINOv2's reference for ADE20K."""

    short_side: int = 512  # pixels that the shorter side is scaled to
    sliding: bool = True  # in windows; else at once
    windows: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise ConfigError(f"short_side must be at least 1 pixel, got {self.short_side}")


class Segmenter:
    """An encoder and a trained head."""

    def __init__(self, encoder: DenseEncoder, head: nn.Module, config: SegmentConfig | None = None) -> None:
        self.encoder, self.config = encoder, config or SegmentConfig()
        self.head = head.to(encoder.device).eval()

    def __call__(self, source: Any) -> npt.NDArray[np.uint16]:
        """The class of each pixel.

        Args:
            source: a picture of any kind that `midsight.images.load_image` takes.

        Returns:
            uint16 (H, W), of the picture's own size.

        Raises:
            MediaError: the picture cannot be read, or is so narrow that it would become too large.
        """
        image = load_image(source)
        logits = self.logits(self._scaled(image, describe(source)))
        size = image.shape[0], image.shape[1]
        return enlarge(logits, size)[0].argmax(dim=0).cpu().numpy().astype(np.uint16)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Images float (B, 3, H, W), normalised, to logits float32 (B, classes, H, W)."""
        images, patch = images.to(self.encoder.device), self.encoder.patch_size
        if self.config.sliding:
            return slide(images, self._window, patch, self.config.windows)
        return whole(images, self._window, patch)

    def _window(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))

    def _scaled(self, image: Pixels, name: str) -> Tensor:
        height, width = shorter_side_to(image.shape[0], image.shape[1], self.config.short_side)
        if height * width > MAX_PIXELS:
            raise MediaError(
                f"{name}: {image.shape[1]}x{image.shape[0]} would become {width}x{height} with its shorter side at "
                f"{self.config.short_side}; the limit is {MAX_PIXELS} pixels. Cut it, or lower short_side."
            )
        return self.encoder.images(image, height, width)[None]
