"""Depth for every pixel of a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.images import load_image
from midsight.tasks.features import DenseEncoder
from midsight.tasks.windows import enlarge, whole


@dataclass(frozen=True)
class DepthConfig:
    """How pictures are looked at."""

    long_side: int = 640  # pixels: larger pictures are scaled down to it; NYU's own size

    def __post_init__(self) -> None:
        if self.long_side < 1:
            raise ConfigError(f"long_side must be at least 1 pixel, got {self.long_side}")


class DepthEstimator:
    """An encoder and a trained head."""

    def __init__(self, encoder: DenseEncoder, head: nn.Module, config: DepthConfig | None = None) -> None:
        self.encoder, self.config = encoder, config or DepthConfig()
        self.head = head.to(encoder.device).eval()

    def __call__(self, source: Any) -> npt.NDArray[np.float32]:
        """Metres along the viewing axis for each pixel.

        Args:
            source: a picture of any kind that `midsight.images.load_image` takes.

        Returns:
            float32 (H, W), of the picture's own size.

        Raises:
            MediaError: the picture cannot be read.
        """
        image = load_image(source)
        height, width = image.shape[:2]
        scale = min(1.0, self.config.long_side / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        metres = self.metres(self.encoder.images(image, *size)[None])
        return enlarge(metres[:, None], (height, width))[0, 0].cpu().numpy()

    @torch.no_grad()
    def metres(self, images: Tensor) -> Tensor:
        """Images float (B, 3, H, W), normalised, to depth float32 (B, H, W)."""
        return whole(images.to(self.encoder.device), self._at_once, self.encoder.patch_size)[:, 0]

    def _at_once(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))
