"""What DETA learns by: two stages assigned by overlap, focal loss on classes, L1 and GIoU on boxes.

Sources: DETA (arXiv 2212.06137), section 3, and its code's defaults; the published settings of PE (class weight 1).
Letters: B images, Q queries, N cells of the first stage, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.tasks.detection.deta import DETA, Answer
from midsight.tasks.detection.losses import Losses, check_labels
from midsight.tasks.detection.matching import best_of_each, match, sample
from midsight.tasks.detection.operators import ops
from midsight.tasks.detection.preprocess import Size
from midsight.tasks.detection.targets import Target

Pairs = tuple[Tensor, Tensor]  # indices of predictions and of their objects


@dataclass(frozen=True)
class DETALossConfig:
    """How predictions are assigned to objects, and the weights of the losses; the defaults are the published ones."""

    first_low: float = 0.3  # IoU of anchors: negative below, ignored up to the next
    first_high: float = 0.7
    first_samples: int = 256
    first_positive: float = 0.5
    second_threshold: float = 0.6  # IoU of the first stage's boxes
    second_positive: float = 0.25  # of the queries
    per_object: int = 4  # most predictions of an object, in both stages
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0


def deta_losses(
    model: DETA, pixels: Tensor, sizes: Sequence[Size], targets: Sequence[Target], config: DETALossConfig
) -> Losses:
    """One step's losses, weighted; their sum is what is minimised.

    Args:
        pixels: (B, 3, S, S), normalised and padded.
        sizes: (height, width) of each image without its padding.
        targets: of each image, boxes in pixels of the padded square.

    Returns:
        Scalars: loss_ce, loss_bbox and loss_giou, each over all decoder layers, and the same with _enc for the first
        stage.

    Raises:
        InputError: a label beyond the model's classes.
    """
    check_labels(targets, model.config.num_classes)
    relative = [_relative(target, size) for target, size in zip(targets, sizes, strict=True)]
    answer = model.answer(pixels, sizes)
    count = max(1, sum(len(t) for t in targets))
    pairs = [second_stage(refs, t.boxes, config) for refs, t in zip(answer.references, relative, strict=True)]
    losses: Losses = {}
    for logits, boxes in answer.layers:  # one assignment for all layers
        for name, value in _layer(logits, boxes, relative, pairs, count, config).items():
            losses[name] = losses[name] + value if name in losses else value
    return losses | _first_stage(answer, relative, count, config)


def first_stage(anchors: Tensor, truth: Tensor, config: DETALossConfig) -> Pairs:
    """Anchors (N, 4) that answer for objects (G, 4), both as centre x, centre y, width, height."""
    overlap = _overlap(truth, anchors)
    index, kind = match(overlap, config.first_low, config.first_high, low_quality=True)
    positive, _ = sample(kind, config.first_samples, config.first_positive)
    return best_of_each(positive, index[positive], overlap, config.per_object)


def second_stage(references: Tensor, truth: Tensor, config: DETALossConfig) -> Pairs:
    """Queries that answer for objects, by the boxes (Q, 4) that they start from."""
    overlap = _overlap(truth, references)
    index, kind = match(overlap, config.second_threshold, config.second_threshold, low_quality=True)
    positive, _ = sample(kind, len(references), config.second_positive)
    return best_of_each(positive, index[positive], overlap, config.per_object)


def _overlap(truth: Tensor, predicted: Tensor) -> Tensor:
    return ops.box_iou(*(ops.box_convert(b, "cxcywh", "xyxy") for b in (truth, predicted)))


def _relative(target: Target, size: Size) -> Target:
    height, width = size
    scale = target.boxes.new_tensor((width, height, width, height))
    return Target(ops.box_convert(target.boxes / scale, "xyxy", "cxcywh"), target.labels)


def _first_stage(answer: Answer, targets: Sequence[Target], count: int, config: DETALossConfig) -> Losses:
    """The dense stage's losses; it only learns whether there is an object, as class 0."""
    stage = answer.stage
    pairs = [first_stage(a, t.boxes, config) for a, t in zip(stage.anchors.sigmoid(), targets, strict=True)]
    alike = [Target(t.boxes, torch.zeros_like(t.labels)) for t in targets]
    losses = _layer(stage.logits, stage.boxes.sigmoid(), alike, pairs, count, config)
    return {f"{name}_enc": value for name, value in losses.items()}


def _layer(
    logits: Tensor, boxes: Tensor, targets: Sequence[Target], pairs: Sequence[Pairs], count: int, config: DETALossConfig
) -> Losses:
    """Losses of logits (B, Q, K) and relative boxes (B, Q, 4), divided by the number of objects."""
    truth = torch.zeros_like(logits)
    for image, ((prediction, index), target) in enumerate(zip(pairs, targets, strict=True)):
        truth[image, prediction, target.labels[index]] = 1
    focal = ops.sigmoid_focal_loss(logits, truth, config.focal_alpha, config.focal_gamma, reduction="sum")
    found = torch.cat([b[prediction] for b, (prediction, _) in zip(boxes, pairs, strict=True)])
    wanted = torch.cat([t.boxes[index] for t, (_, index) in zip(targets, pairs, strict=True)])
    corners = [ops.box_convert(b, "cxcywh", "xyxy") for b in (found, wanted)]
    giou = ops.generalized_box_iou_loss(*corners, reduction="sum")
    return {
        "loss_ce": config.class_weight * focal / count,
        "loss_bbox": config.l1_weight * F.l1_loss(found, wanted, reduction="sum") / count,
        "loss_giou": config.giou_weight * giou / count,
    }
