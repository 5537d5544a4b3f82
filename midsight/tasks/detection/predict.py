"""Detection by trained heads on features of a frozen encoder, which other heads may share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.preprocess import Batch, Normalization, longest_side_size, make_batch
from midsight.tasks.features import DenseEncoder

_WHITE = 255.0


class HeadDetector:
    """An encoder and heads that were trained on it; called like `MaskRCNN`."""

    def __init__(self, encoder: DenseEncoder, heads: MaskRCNNHeads) -> None:
        self.encoder, self.config = encoder, heads.config
        self.heads = heads.to(encoder.device).eval()

    @torch.no_grad()
    def __call__(self, images: Sequence[Any]) -> list[dict[str, Tensor]]:
        """Detections in pixels of the pictures as they came, best first; as `MaskRCNNHeads.detect`.

        Args:
            images: uint8 RGB tensors (3, H, W) of any sizes, or anything else that `midsight.images.load_image` takes.

        Raises:
            InputError: not a list, or an empty one.
            MediaError, ShapeError: something that is no picture.
        """
        batch = self.batch(images)
        return self.heads.detect(self.encoder(batch.pixels)[0], batch.resized, batch.original)

    def batch(self, images: Sequence[Any]) -> Batch:
        """Pictures scaled to the heads' square and padded, normalised as the encoder wants them."""
        side, kept = self.config.image_size, self.encoder.preprocess
        mean, std = (tuple(_WHITE * value for value in values) for values in (kept.mean, kept.std))
        normalize = Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
        return make_batch(images, side, lambda size: longest_side_size(size, side), normalize, self.encoder.device)
