"""What Mask R-CNN learns by: objectness, classes, boxes and masks.

Sources: Mask R-CNN (arXiv 1703.06870), detectron2's defaults for ViTDet, the federated loss of CenterNet2
(arXiv 2103.07461) for LVIS. Letters: B images, A anchors, R sampled proposals, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError
from midsight.tasks.detection import rpn
from midsight.tasks.detection.boxes import encode
from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.matching import match, sample
from midsight.tasks.detection.operators import ops
from midsight.tasks.detection.preprocess import Size
from midsight.tasks.detection.roi_heads import DELTA_WEIGHTS
from midsight.tasks.detection.targets import Target

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class MaskRCNNLossConfig:
    """How predictions become positives and negatives; the defaults are the published ones."""

    rpn_low: float = 0.3  # IoU below which an anchor is background
    rpn_high: float = 0.7
    rpn_samples: int = 256  # anchors of an image
    rpn_positive: float = 0.5
    rpn_pre_nms: int = 2000  # of each level; more than in inference
    roi_threshold: float = 0.5
    roi_samples: int = 512  # proposals of an image
    roi_positive: float = 0.25
    federated_classes: int = 50  # LVIS: at least so many classes count in a step
    federated_power: float = 0.5  # of a class's number of images, its chance to be drawn


@dataclass(frozen=True)
class Sampled:
    """The proposals of one image that count in this step."""

    boxes: Tensor  # (R, 4)
    labels: Tensor  # (R,), the number of classes for background
    objects: Tensor  # (R,), index of the object that each was matched to


def mask_rcnn_losses(
    model: MaskRCNNHeads, pixels: Tensor, sizes: Sequence[Size], targets: Sequence[Target], config: MaskRCNNLossConfig
) -> Losses:
    """One step's losses; their sum is what is minimised.

    Args:
        pixels: (B, 3, S, S), normalised and padded; for heads without a tower its maps (B, C, h, w).
        sizes: (height, width) of each image without its padding.
        targets: of each image, boxes and masks in pixels of the padded square.

    Returns:
        Scalars under the field's names: loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg and, where the targets have
        masks, loss_mask.

    Raises:
        InputError: a label beyond the model's classes.
    """
    check_labels(targets, model.config.num_classes)
    maps = list(model.backbone(pixels).values())
    dense = model.proposal_generator(maps, model.config.image_size)
    losses = rpn_losses(dense, targets, config)
    chosen = _sampled(model, dense, sizes, targets, config)
    boxes = [c.boxes for c in chosen]
    logits, deltas = model.roi_heads.predict_boxes(maps[:-1], boxes, model.config.image_size)
    losses |= _class_loss(model, logits, torch.cat([c.labels for c in chosen]), config)
    losses |= _box_loss(deltas, chosen, targets)
    return losses | _mask_loss(model, maps[:-1], chosen, targets)


def rpn_losses(dense: rpn.Dense, targets: Sequence[Target], config: MaskRCNNLossConfig) -> Losses:
    """Objectness of sampled anchors, and deltas of the positive ones, each divided by the number of samples."""
    anchors = torch.cat(dense.anchors)
    logits, deltas = torch.cat(dense.logits, dim=1), torch.cat(dense.deltas, dim=1)  # B, A and B, A, 4
    objectness, location = logits.sum() * 0, deltas.sum() * 0
    for scores, moves, target in zip(logits, deltas, targets, strict=True):
        index, kind = match(ops.box_iou(target.boxes, anchors), config.rpn_low, config.rpn_high, low_quality=True)
        positive, negative = sample(kind, config.rpn_samples, config.rpn_positive)
        both = torch.cat((positive, negative))
        truth = (torch.arange(len(both), device=both.device) < len(positive)).to(scores.dtype)
        objectness = objectness + F.binary_cross_entropy_with_logits(scores[both], truth, reduction="sum")
        wanted = encode(target.boxes[index[positive]], anchors[positive], rpn.DELTA_WEIGHTS)
        location = location + F.l1_loss(moves[positive], wanted, reduction="sum")
    count = config.rpn_samples * len(targets)
    return {"loss_rpn_cls": objectness / count, "loss_rpn_loc": location / count}


@torch.no_grad()
def _sampled(
    model: MaskRCNNHeads, dense: rpn.Dense, sizes: Sequence[Size], targets: Sequence[Target], config: MaskRCNNLossConfig
) -> list[Sampled]:
    settings = model.config
    found = rpn.propose(
        dense,
        sizes,
        pre_nms=config.rpn_pre_nms,
        post_nms=settings.rpn_post_nms,
        nms_threshold=settings.rpn_nms_threshold,
    )
    return [sample_proposals(p.boxes, t, settings.num_classes, config) for p, t in zip(found, targets, strict=True)]


def sample_proposals(proposals: Tensor, target: Target, classes: int, config: MaskRCNNLossConfig) -> Sampled:
    """Proposals of one image, and its true boxes among them, matched and sampled."""
    boxes = torch.cat((proposals, target.boxes))
    threshold = config.roi_threshold
    index, kind = match(ops.box_iou(target.boxes, boxes), threshold, threshold, low_quality=False)
    positive, negative = sample(kind, config.roi_samples, config.roi_positive)
    both = torch.cat((positive, negative))
    labels = torch.full((len(boxes),), classes, dtype=torch.int64, device=boxes.device)
    labels[positive] = target.labels[index[positive]]
    return Sampled(boxes[both], labels[both], index[both])


def _class_loss(model: MaskRCNNHeads, logits: Tensor, labels: Tensor, config: MaskRCNNLossConfig) -> Losses:
    if model.config.score_function == "softmax":
        return {"loss_cls": F.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0}
    weights = model.roi_heads.box_predictor.fed_loss_cls_weights
    return {"loss_cls": federated_loss(logits, labels, weights, config.federated_classes)}


def federated_loss(logits: Tensor, labels: Tensor, weights: Tensor, least: int) -> Tensor:
    """Binary cross-entropy over some of the classes: those of this step's objects, and others drawn by weight.

    Args:
        logits: (R, K + 1); the last column, background, is not used.
        labels: (R,), K for background.
        weights: (K,), chances of the classes to be drawn.
        least: classes that count in a step.
    """
    classes = logits.shape[1] - 1
    counted = torch.zeros(classes + 1, device=logits.device)
    counted[labels] = 1
    counted = counted[:-1]
    missing = min(least - int(counted.sum()), int(((weights > 0) & (counted == 0)).sum()))
    if missing > 0:
        counted[torch.multinomial(weights.to(counted) * (1 - counted), missing)] = 1
    truth = F.one_hot(labels, classes + 1)[:, :-1].to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits[:, :-1], truth, reduction="none")
    return (loss * counted).sum() / max(1, len(labels))


def federated_weights(images_of_class: Tensor, power: float) -> Tensor:
    """Chances (K,) of the classes, from the number of images that show each."""
    return images_of_class.float() ** power


def _box_loss(deltas: Tensor, chosen: Sequence[Sampled], targets: Sequence[Target]) -> Losses:
    """Deltas of positive proposals for their own class, divided by all sampled proposals."""
    labels = torch.cat([c.labels for c in chosen])
    wanted = torch.cat([t.boxes[c.objects] if len(t) else c.boxes for c, t in zip(chosen, targets, strict=True)])
    positive = (labels < deltas.shape[1]).nonzero().squeeze(1)
    starts = torch.cat([c.boxes for c in chosen])[positive]
    found = deltas[positive, labels[positive]]
    loss = F.l1_loss(found, encode(wanted[positive], starts, DELTA_WEIGHTS), reduction="sum")
    return {"loss_box_reg": loss / max(1, len(labels))}


def _mask_loss(
    model: MaskRCNNHeads, maps: Sequence[Tensor], chosen: Sequence[Sampled], targets: Sequence[Target]
) -> Losses:
    if any(t.masks is None for t in targets):
        return {}
    picked = [c.labels < model.config.num_classes for c in chosen]
    boxes = [c.boxes[p] for c, p in zip(chosen, picked, strict=True)]
    labels = torch.cat([c.labels[p] for c, p in zip(chosen, picked, strict=True)])
    logits = model.roi_heads.predict_masks(maps, boxes, labels, model.config.image_size)
    if not len(labels):
        return {"loss_mask": logits.sum() * 0}
    parts = zip(targets, chosen, picked, boxes, strict=True)
    truth = [crop_masks(t.masks[c.objects[p]], b, logits.shape[-1]) for t, c, p, b in parts if t.masks is not None]
    return {"loss_mask": F.binary_cross_entropy_with_logits(logits, torch.cat(truth).to(logits.dtype))}


def crop_masks(masks: Tensor, boxes: Tensor, side: int) -> Tensor:
    """What of each mask (N, H, W) lies in its box (N, 4), at (N, side, side), bool."""
    index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
    rois = torch.cat((index, boxes), dim=1)
    cropped = ops.roi_align(masks[:, None].float(), rois, side, 1.0, sampling_ratio=0, aligned=True)
    return cropped[:, 0] >= 0.5


def check_labels(targets: Sequence[Target], classes: int) -> None:
    """Raises InputError where a label is none of the model's classes."""
    for target in targets:
        if len(target) and not 0 <= int(target.labels.min()) <= int(target.labels.max()) < classes:
            raise InputError(
                f"a label of {int(target.labels.min())} to {int(target.labels.max())} does not fit a model of "
                f"{classes} classes, which are counted from 0"
            )
