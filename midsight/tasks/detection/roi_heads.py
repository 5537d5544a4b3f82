"""Class, exact box and mask of each proposal.

Sources: Mask R-CNN (arXiv 1703.06870), ViTDet, detectron2's box and mask heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.tasks.detection.boxes import Weights, clip, decode
from midsight.tasks.detection.config import MaskRCNNConfig
from midsight.tasks.detection.operators import ops
from midsight.tasks.detection.preprocess import Size
from midsight.tasks.detection.pyramid import NormedConv2d, fill_msra

BOX_POOL, MASK_POOL = 7, 14
DELTA_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)
CANONICAL_SIZE, CANONICAL_LEVEL, FIRST_LEVEL = 224, 4, 2  # a box of 224 pixels is pooled from p4; the maps begin at p2


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first; boxes in pixels of the resized image."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    labels: Tensor  # (N,), int64


class BoxHead(nn.Module):
    """Four convolutions and a linear map on what was pooled from a proposal."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (NormedConv2d(channels, channels, 3) for _ in range(4))
        self.fc1 = nn.Linear(channels * BOX_POOL**2, width)
        if not self.fc1.weight.is_meta:
            nn.init.kaiming_uniform_(self.fc1.weight, a=1)
            nn.init.zeros_(self.fc1.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 7, 7) to (N, width)."""
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        return F.relu(self.fc1(x.flatten(1)))


class BoxPredictor(nn.Module):
    """Class scores, background last, and a box for each class.

    `fed_loss_cls_weights` are the classes' chances to be drawn as negatives in the federated loss; the published LVIS
    checkpoints carry them.
    """

    fed_loss_cls_weights: Tensor  # (K,), where the loss is federated

    def __init__(self, width: int, classes: int, federated: bool) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes + 1)
        self.bbox_pred = nn.Linear(width, 4 * classes)
        if federated:
            self.register_buffer("fed_loss_cls_weights", torch.ones(classes))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            if not layer.weight.is_meta:
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width) to logits (N, K + 1) and deltas (N, K, 4), float32."""
        return self.cls_score(x).float(), self.bbox_pred(x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """A 28 x 28 mask for each class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        convs = (NormedConv2d(channels, channels, 3) for _ in range(4))
        self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4 = convs
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.predictor = nn.Conv2d(channels, classes, 1)
        fill_msra(self.deconv.weight)
        if not self.predictor.weight.is_meta:
            nn.init.normal_(self.predictor.weight, std=0.001)
            nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 14, 14) to logits (N, K, 28, 28), float32."""
        for conv in (self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4):
            x = F.relu(conv(x))
        return self.predictor(F.relu(self.deconv(x))).float()


class ROIHeads(nn.Module):
    """The box and the mask branch."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        federated = config.score_function == "sigmoid"
        self.box_head = BoxHead(config.channels, config.box_fc)
        self.box_predictor = BoxPredictor(config.box_fc, config.num_classes, federated)
        self.mask_head = MaskHead(config.channels, config.num_classes)

    def predict_boxes(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], image_size: int) -> tuple[Tensor, Tensor]:
        """Logits (sum N, K + 1) and deltas (sum N, K, 4) of the proposals (N, 4) of every image.

        Args:
            maps: p2 to p5.
            boxes: one tensor an image, pixels of the padded square.
            image_size: its side.
        """
        logits, deltas = self.box_predictor(self.box_head(pool(maps, boxes, BOX_POOL, image_size)))
        return logits, deltas

    def predict_masks(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], labels: Tensor, image_size: int) -> Tensor:
        """Logits (sum N, 28, 28) of each box for its own class, `labels` (sum N,)."""
        return of_own_class(self.mask_head(pool(maps, boxes, MASK_POOL, image_size)), labels)


def of_own_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Masks (N, K, M, M) of all classes to the one of each label, (N, M, M)."""
    return logits[torch.arange(labels.shape[0], device=labels.device), labels]


def pool(maps: Sequence[Tensor], boxes: Sequence[Tensor], side: int, image_size: int) -> Tensor:
    """Square pieces of the map that suits each box's size.

    Args:
        maps: p2 to p5, (B, C, H, W).
        boxes: B tensors (N, 4), pixels of the padded square.
        side: of the pieces.
        image_size: side of the padded square.

    Returns:
        (sum N, C, side, side), in the order of the boxes.
    """
    every = torch.cat(list(boxes))
    image = torch.cat([torch.full((len(b),), float(i), device=every.device) for i, b in enumerate(boxes)])
    return pool_rois(maps, torch.cat((image[:, None], every), dim=1), side, image_size)


def pool_rois(maps: Sequence[Tensor], rois: Tensor, side: int, image_size: int) -> Tensor:
    """As `pool`, of boxes in one tensor: the index of the image, then corners, (N, 5)."""
    levels = level_of(rois[:, 1:], len(maps))
    pooled = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], side, side)
    for level, x in enumerate(maps):
        here = (levels == level).nonzero().squeeze(1)
        pieces = ops.roi_align(
            x.float(), rois[here].float(), side, x.shape[-1] / image_size, sampling_ratio=0, aligned=True
        )
        pooled = pooled.index_copy(0, here, pieces.to(pooled.dtype))
    return pooled


def level_of(boxes: Tensor, levels: int) -> Tensor:
    """Index of the map that each box (N, 4) is pooled from, by the root of its area."""
    size = ops.box_area(boxes).clamp(min=0).sqrt()
    wanted = (CANONICAL_LEVEL + (size / CANONICAL_SIZE + 1e-8).log2()).floor()
    return wanted.clamp(FIRST_LEVEL, FIRST_LEVEL + levels - 1).long() - FIRST_LEVEL


def select(logits: Tensor, deltas: Tensor, proposals: Tensor, size: Size, config: MaskRCNNConfig) -> Detections:
    """The detections of one image: clipped, above the threshold, class-wise NMS, the best so many.

    Args:
        logits: (N, K + 1), background last.
        deltas: (N, K, 4).
        proposals: (N, 4), pixels of the resized image.
        size: (height, width) of the image without its padding.
    """
    scores = (logits.softmax(dim=1) if config.score_function == "softmax" else logits.sigmoid())[:, :-1]  # N, K
    boxes = decode(deltas, proposals, DELTA_WEIGHTS)  # N, K, 4
    finite = boxes.isfinite().flatten(1).all(dim=1) & scores.isfinite().all(dim=1)
    boxes, scores = clip(boxes[finite], size), scores[finite]
    row, label = (scores > config.score_threshold).nonzero(as_tuple=True)
    boxes, scores = boxes[row, label], scores[row, label]
    best = ops.batched_nms(boxes, scores, label, config.nms_threshold)[: config.detections_per_image]
    return Detections(boxes[best], scores[best], label[best])
