"""Several heads over one pass of their encoder: objects, classes and depth of a picture at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.tasks.detection.predict import HeadDetector
from midsight.tasks.windows import enlarge


@dataclass(frozen=True)
class Perceived:
    """What is known of one picture of H x W pixels."""

    detections: dict[str, Tensor]  # as `MaskRCNNHeads.detect`
    classes: npt.NDArray[np.uint16]  # (H, W)
    metres: npt.NDArray[np.float32]  # (H, W)


class Perceiver:
    """Pictures are scaled to the detector's square and padded; all heads read the one map of it.

    Of pictures that are no square, segmentation and depth see less detail than with `Segmenter` and `DepthEstimator`,
    which scale the shorter side and look through windows.
    """

    def __init__(self, detector: HeadDetector, segmentation: nn.Module, depth: nn.Module) -> None:
        """
        Args:
            detector: gives the encoder as well.
            segmentation, depth: heads on the same layers of the same encoder.
        """
        self.detector, self.encoder = detector, detector.encoder
        self.segmentation, self.depth = (head.to(self.encoder.device).eval() for head in (segmentation, depth))
        if len(self.encoder.layers) != 1:
            raise ConfigError(f"heads that share a pass read one layer; the encoder gives {self.encoder.layers}")

    @torch.no_grad()
    def __call__(self, images: Sequence[Any]) -> list[Perceived]:
        """What is in each picture.

        Args:
            images: uint8 RGB tensors (3, H, W) of any sizes, or anything else that `midsight.images.load_image` takes.

        Raises:
            InputError: not a list, or an empty one.
            MediaError, ShapeError: something that is no picture.
        """
        batch = self.detector.batch(images)
        maps = self.encoder(batch.pixels)
        found = self.detector.heads.detect(maps[0], batch.resized, batch.original)
        side = batch.pixels.shape[-2], batch.pixels.shape[-1]
        logits, metres = (enlarge(head(maps).float(), side) for head in (self.segmentation, self.depth))
        return [
            Perceived(
                one,
                _on_picture(logits[k], resized, original).argmax(dim=0).cpu().numpy().astype(np.uint16),
                _on_picture(metres[k], resized, original)[0].cpu().numpy(),
            )
            for k, (one, resized, original) in enumerate(zip(found, batch.resized, batch.original, strict=True))
        ]


def _on_picture(square: Tensor, resized: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """(K, S, S), whose top left `resized` part is the picture, to (K, *original)."""
    return enlarge(square[None, :, : resized[0], : resized[1]], original)[0]
