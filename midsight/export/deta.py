"""DETA as one graph: padded squares in, tables of detections out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.export.boxes import UNUSED, corner_limits, first_of_each, picture_sizes, table
from midsight.tasks.detection.deformable import Shape
from midsight.tasks.detection.deta import DETA, PRE_NMS
from midsight.tasks.detection.deta_transformer import FIRST_NMS, FirstStage
from midsight.tasks.detection.deta_transformer import PRE_NMS as FIRST_PRE_NMS
from midsight.tasks.detection.operators import ops


class DETAGraph(nn.Module):
    """Images float32 (B, 3, S, S), normalised, zeros at the right and at the bottom, to three tables.

    boxes_xyxy float32 (B, D, 4), pixels of the square, not clipped; scores float32 (B, D), best first; labels int64
    (B, D), -1 where a row is not used.
    """

    def __init__(self, detector: DETA) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = picture_sizes(images)
        answer = self.detector.answer_padded(images, _padding(images, sizes), self._choose)
        logits, relative = answer.layers[-1]  # B, Q, K; B, Q, 4
        boxes = ops.box_convert(relative, "cxcywh", "xyxy") * corner_limits(sizes)[:, None]
        return self._detections(logits, boxes)

    def _detections(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config, (batch, queries, classes) = self.detector.config, logits.shape
        scores, pair = logits.sigmoid().flatten(1).topk(min(PRE_NMS, queries * classes), dim=1)  # B, M
        boxes = boxes.gather(1, (pair // classes)[..., None].expand(-1, -1, 4)).flatten(0, 1)
        scores, label, image = scores.flatten(), (pair % classes).flatten(), _images_of(pair)
        rows = config.detections_per_image
        index, place = first_of_each(
            boxes, scores, image, label, labels=classes, side=config.image_size, threshold=config.nms_threshold,
            limit=rows, batch=batch,
        )  # fmt: skip
        return (
            table(boxes[index], place, batch, rows),
            table(scores[index], place, batch, rows),
            table(label[index], place, batch, rows, UNUSED),
        )

    def _choose(self, stage: FirstStage, shapes: Sequence[Shape]) -> Tensor:
        """As `choose_queries`, for all pictures at once: indices (B, Q)."""
        count, (batch, _, _) = self.detector.config.num_queries, stage.boxes.shape
        scores = stage.logits[..., 0]  # B, N
        plain = scores.topk(count, dim=1).indices
        candidates, level = _best_of_levels(scores, shapes)  # B, K; K
        if candidates.shape[1] < count:
            return plain
        scores = scores.gather(1, candidates)
        boxes = stage.boxes.sigmoid().gather(1, candidates[..., None].expand(-1, -1, 4))
        corners = ops.box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
        index, _ = first_of_each(
            corners.flatten(0, 1), scores.flatten(), _images_of(candidates), level.repeat(batch), labels=len(shapes),
            side=1.0, threshold=FIRST_NMS, limit=candidates.shape[1], batch=batch,
        )  # fmt: skip
        kept = torch.zeros_like(candidates).flatten().index_fill(0, index, 1).view_as(candidates) > 0
        picked = candidates.gather(1, _shared_out(scores, kept, level, len(shapes), count))
        return torch.where(kept.sum(dim=1, keepdim=True) < count, plain, picked)


def _padding(images: Tensor, sizes: Tensor) -> Tensor:
    """1 on the padding of each square, else 0; float32 (B, 1, S, S)."""
    at = torch.arange(images.shape[-1], device=images.device)
    rows, columns = (at[None] >= sizes[:, k, None] for k in (0, 1))  # B, S
    return (rows[:, :, None] | columns[:, None]).float()[:, None]


def _images_of(x: Tensor) -> Tensor:
    """The picture of each entry of (B, N), flat."""
    return torch.arange(x.shape[0], device=x.device)[:, None].expand_as(x).flatten()


def _best_of_levels(scores: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, Tensor]:
    """Indices (B, K) of the best cells of each level, and the level of each (K,)."""
    start, found, levels = 0, [], []
    for level, (rows, columns) in enumerate(shapes):
        cells, count = rows * columns, min(FIRST_PRE_NMS, rows * columns)
        found.append(scores[:, start : start + cells].topk(count, dim=1).indices + start)
        levels.append(torch.full((count,), level, device=scores.device))
        start += cells
    return torch.cat(found, dim=1), torch.cat(levels)


def _shared_out(scores: Tensor, kept: Tensor, level: Tensor, levels: int, count: int) -> Tensor:
    """Places (B, count) of those that become queries: the best of each level as far as its share goes, then others."""
    value, order = scores.where(kept, scores.new_tensor(float("-inf"))).sort(dim=1, descending=True)
    real = kept.gather(1, order)
    of_level = F.one_hot(level, levels)[order] * real[..., None]  # B, K, L
    rank = (of_level.cumsum(dim=1) * of_level).sum(dim=-1)  # 1 for the best of its level
    chosen = real & (rank <= count // levels)
    rest = real & ~chosen
    missing = count - chosen.sum(dim=1, keepdim=True)
    chosen = chosen | (rest & (rest.cumsum(dim=1) <= missing))
    size = scores.shape[1]
    first = (chosen * (2 * size) - torch.arange(size, device=scores.device)).topk(count, dim=1).indices
    return order.gather(1, first)
