"""Mask R-CNN as one graph: padded squares in, tables of detections out."""

import torch
from torch import Tensor, nn

from midsight.export.boxes import UNUSED, clip_to, corner_limits, first_of_each, picture_sizes, table
from midsight.tasks.detection.boxes import decode
from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.roi_heads import BOX_POOL, DELTA_WEIGHTS, MASK_POOL, of_own_class, pool_rois
from midsight.tasks.detection.rpn import best_of_levels


class MaskRCNNGraph(nn.Module):
    """Images float32 (B, 3, S, S), normalised, zeros at the right and at the bottom, to four tables.

    boxes_xyxy float32 (B, D, 4), pixels of the square; scores float32 (B, D), best first; labels int64 (B, D), -1 where
    a row is not used; masks float32 (B, D, 28, 28), probabilities within the box.
    """

    def __init__(self, heads: MaskRCNNHeads, features: nn.Module) -> None:
        """
        Args:
            features: images to what the heads' pyramid takes.
        """
        super().__init__()
        self.heads, self.features = heads, features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch, config = images.shape[0], self.heads.config
        limits = corner_limits(picture_sizes(images))  # B, 4
        maps = list(self.heads.backbone(self.features(images)).values())
        boxes, image = self._proposals(maps, limits)  # N, 4 and N, of all pictures
        boxes, scores, labels, image, place = self._boxes(maps, boxes, image, limits)
        masks = self.heads.roi_heads.mask_head(pool_rois(maps[:-1], _rois(image, boxes), MASK_POOL, config.image_size))
        masks = of_own_class(masks, labels).sigmoid()  # M, 28, 28
        rows = config.detections_per_image
        return (
            table(boxes, place, batch, rows),
            table(scores, place, batch, rows),
            table(labels, place, batch, rows, UNUSED),
            table(masks, place, batch, rows),
        )

    def _proposals(self, maps: list[Tensor], limits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) and the picture of each (N,); as `rpn.propose`."""
        config, batch = self.heads.config, limits.shape[0]
        dense = self.heads.proposal_generator(maps, config.image_size)
        boxes, logits, levels = best_of_levels(dense, config.rpn_pre_nms)  # B, K, 4; B, K; K
        finite = boxes.isfinite().all(dim=-1) & logits.isfinite()
        boxes = clip_to(boxes.where(finite[..., None], boxes.new_zeros(())), limits[:, None])
        image, which = (finite & _has_area(boxes)).nonzero().unbind(1)
        boxes, logits, levels = boxes[image, which], logits[image, which], levels[which]
        index, _ = first_of_each(
            boxes, logits, image, levels, labels=len(maps), side=config.image_size,
            threshold=config.rpn_nms_threshold, limit=config.rpn_post_nms, batch=batch,
        )  # fmt: skip
        return boxes[index], image[index]

    def _boxes(
        self, maps: list[Tensor], proposals: Tensor, image: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Boxes (M, 4), scores, labels, pictures and places in the table, (M,) each; as `roi_heads.select`."""
        heads, config = self.heads.roi_heads, self.heads.config
        pooled = pool_rois(maps[:-1], _rois(image, proposals), BOX_POOL, config.image_size)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))  # N, K + 1; N, K, 4
        scores = (logits.softmax(dim=1) if config.score_function == "softmax" else logits.sigmoid())[:, :-1]
        boxes = decode(deltas, proposals, DELTA_WEIGHTS)
        finite = boxes.isfinite().flatten(1).all(dim=1) & scores.isfinite().all(dim=1)
        boxes = clip_to(boxes.where(finite[:, None, None], boxes.new_zeros(())), limits[image][:, None])
        good = (scores > config.score_threshold) & finite[:, None] & _has_area(boxes)
        row, label = good.nonzero().unbind(1)
        boxes, scores, image = boxes[row, label], scores[row, label], image[row]
        index, place = first_of_each(
            boxes, scores, image, label, labels=config.num_classes, side=config.image_size,
            threshold=config.nms_threshold, limit=config.detections_per_image, batch=limits.shape[0],
        )  # fmt: skip
        return boxes[index], scores[index], label[index], image[index], place


def _rois(image: Tensor, boxes: Tensor) -> Tensor:
    """(N,) and (N, 4) to what torchvision pools, (N, 5)."""
    return torch.cat((image[:, None].to(boxes.dtype), boxes), dim=1)


def _has_area(boxes: Tensor) -> Tensor:
    """Which of the boxes (..., 4) are wider and higher than nothing."""
    return (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
