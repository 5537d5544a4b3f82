"""Mask R-CNN on a PE tower, as published (PE paper, B.3.4 and table 24): boxes, classes and masks.

`MaskRCNN(vision, config)(images)` gives one dictionary an image, as torchvision's detectors do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from midsight.configs import PEConfig
from midsight.tasks.detection import masks, published
from midsight.tasks.detection.boxes import clip, has_area, rescale
from midsight.tasks.detection.config import MaskRCNNConfig, as_config
from midsight.tasks.detection.preprocess import MASK_RCNN_PIXELS, Batch, Size, longest_side_size, make_batch
from midsight.tasks.detection.pyramid import FeaturePyramid, SimpleFeaturePyramid
from midsight.tasks.detection.roi_heads import Detections, ROIHeads, select
from midsight.tasks.detection.rpn import Proposals, RegionProposalNetwork, propose
from midsight.tasks.detection.windowed import WindowedBackbone

LAYOUT = published.Layout(tower="backbone.net.")


class MaskRCNNHeads(nn.Module):
    """What Mask R-CNN does with feature maps: proposals, boxes, classes and masks."""

    def __init__(self, pyramid: FeaturePyramid, config: MaskRCNNConfig) -> None:
        """
        Args:
            pyramid: makes p2 to p6, of a map or of pictures.
        """
        super().__init__()
        self.config = config
        self.backbone = pyramid
        self.proposal_generator = RegionProposalNetwork(config.channels)
        self.roi_heads = ROIHeads(config)

    @torch.no_grad()
    def detect(self, x: Tensor, resized: Sequence[Size], original: Sequence[Size]) -> list[dict[str, Tensor]]:
        """Detections in pixels of the original images, best first.

        Args:
            x: what the pyramid takes, of padded squares of `config.image_size` pixels.
            resized: (height, width) of what of each square is picture.
            original: (height, width) of each picture as it came.

        Returns:
            For each image boxes (N, 4) as x1, y1, x2, y2, float32; scores (N,), float32; labels (N,), int64, 0-based
            and contiguous; masks (N, 1, H, W), bool.
        """
        found = self.find(x, resized)
        return [_on_original(d, m, old, new) for (d, m), old, new in zip(found, resized, original, strict=True)]

    @torch.no_grad()
    def find(self, x: Tensor, resized: Sequence[Size]) -> list[tuple[Detections, Tensor]]:
        """Detections of each image in pixels of its square, and their masks within their boxes.

        Args:
            x, resized: as `detect`.

        Returns:
            For each image its detections and probabilities float32 (N, 28, 28).
        """
        maps = list(self.backbone(x).values())
        boxes = [p.boxes for p in self.propose(maps, resized)]
        logits, deltas = self.roi_heads.predict_boxes(maps[:-1], boxes, self.config.image_size)
        counts = [len(b) for b in boxes]
        parts = zip(logits.split(counts), deltas.split(counts), boxes, resized, strict=True)
        found = [select(*part, self.config) for part in parts]
        labels = torch.cat([d.labels for d in found])
        small = self.roi_heads.predict_masks(maps[:-1], [d.boxes for d in found], labels, self.config.image_size)
        small = small.sigmoid()
        return list(zip(found, small.split([len(d.labels) for d in found]), strict=True))

    def propose(self, maps: Sequence[Tensor], sizes: Sequence[Size]) -> list[Proposals]:
        """The best boxes of each image, whatever is in them.

        Args:
            maps: p2 to p6.
            sizes: (height, width) of what of each square is picture.
        """
        dense = self.proposal_generator(maps, self.config.image_size)
        return propose(
            dense,
            sizes,
            pre_nms=self.config.rpn_pre_nms,
            post_nms=self.config.rpn_post_nms,
            nms_threshold=self.config.rpn_nms_threshold,
        )


class MaskRCNN(MaskRCNNHeads):
    """The published Mask R-CNN: windowed PE tower, simple feature pyramid, proposals, box and mask heads.

    Modules carry the published names. Built under `torch.device("meta")`, it takes a checkpoint's tensors without a
    copy.
    """

    backbone: SimpleFeaturePyramid

    def __init__(self, vision: PEConfig | Mapping[str, Any], config: MaskRCNNConfig | Mapping[str, Any]) -> None:
        """
        Args:
            vision: the tower, or its fields; `image_size` is the position table's side in pixels, not the input's.
            config: the detector, or its fields.

        Raises:
            ConfigError: a field that does not exist, or values that cannot be.
        """
        settings = as_config(MaskRCNNConfig, config)
        net = WindowedBackbone(
            as_config(PEConfig, vision),
            settings.image_size,
            settings.window_size,
            settings.global_blocks,
            rope_grid=settings.rope_grid,
        )
        super().__init__(SimpleFeaturePyramid(net, settings.channels), settings)

    @property
    def device(self) -> torch.device:
        return self.backbone.net.conv1.weight.device

    def load_published(self, checkpoint: Mapping[str, Any]) -> None:
        """A published state dict, or a published file's content, strictly; see `published.load`.

        Raises:
            CheckpointError: a tensor is missing, not known or of another shape; its published name is told.
        """
        published.load(self, self.backbone.net, LAYOUT, checkpoint)

    def published_state_dict(self) -> dict[str, Tensor]:
        """The weights as a published file lists them; `load_published` takes them back."""
        return published.state_dict_of(self, self.backbone.net, LAYOUT)

    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, list[Size]]:
        """Pictures to a batch.

        Args:
            images: uint8 RGB tensors (3, H, W) of any sizes, or anything else that `midsight.images.load_image` takes.

        Returns:
            float32 (N, 3, S, S), normalised, zeros at the right and at the bottom; each image's (height, width) within.

        Raises:
            InputError: not a list, or an empty one.
            MediaError, ShapeError: something that is no picture.
        """
        batch = self._batch(images)
        return batch.pixels, batch.resized

    @torch.no_grad()
    def proposals(self, images: Sequence[Any]) -> list[dict[str, Tensor]]:
        """What the region proposal network finds: boxes (N, 4) in pixels of the resized image, and logits (N,)."""
        batch = self._batch(images)
        found = self.propose(list(self.backbone(batch.pixels).values()), batch.resized)
        return [{"boxes": p.boxes, "logits": p.logits} for p in found]

    @torch.no_grad()
    def forward(self, images: Sequence[Any]) -> list[dict[str, Tensor]]:
        """Detections in pixels of the original images, best first.

        Args:
            images: as `preprocess`.

        Returns:
            For each image boxes (N, 4) as x1, y1, x2, y2, float32; scores (N,), float32; labels (N,), int64, 0-based
            and contiguous; masks (N, 1, H, W), bool.

        Raises:
            As `preprocess`.
        """
        batch = self._batch(images)
        return self.detect(batch.pixels, batch.resized, batch.original)

    def _batch(self, images: Sequence[Any]) -> Batch:
        side = self.config.image_size
        return make_batch(images, side, lambda size: longest_side_size(size, side), MASK_RCNN_PIXELS, self.device)


def _on_original(found: Detections, small: Tensor, resized: Size, original: Size) -> dict[str, Tensor]:
    """Detections of the resized image on the original one; boxes that are empty there are dropped."""
    boxes = clip(rescale(found.boxes, resized, original), original)
    keep = has_area(boxes)
    boxes = boxes[keep]
    pasted = masks.paste(small[keep], boxes, original)
    return {"boxes": boxes, "scores": found.scores[keep], "labels": found.labels[keep], "masks": pasted[:, None]}
