"""DETA on a PE tower, as published (PE paper, B.3.5 and table 25): boxes and classes, with test-time augmentation.

`DETA(vision, config)(images)` gives one dictionary an image, as torchvision's detectors do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.configs import PEConfig
from midsight.errors import ConfigError
from midsight.tasks.detection import published
from midsight.tasks.detection.config import DETAConfig, as_config
from midsight.tasks.detection.deformable import Shape
from midsight.tasks.detection.deta_transformer import BoxEmbedding, DeformableTransformer, FirstStage
from midsight.tasks.detection.nms import soft_nms
from midsight.tasks.detection.operators import ops
from midsight.tasks.detection.preprocess import DETA_PIXELS, Batch, Size, make_batch, pad, shorter_side_size
from midsight.tasks.detection.windowed import WindowedBackbone

LAYOUT = published.Layout(
    tower="backbone.0.body.",
    renames=(("backbone.0.fpn1.", "backbone.0.body.fpn1."), ("backbone.0.net.", "backbone.0.body.")),
    twice=tuple((f"{name}.", f"transformer.decoder.{name}.") for name in ("bbox_embed", "class_embed")),
)
ROOM = 32  # pixels that a picture's longer side stays below the square's
PRE_NMS, PRE_SOFT_NMS = 10_000, 2_000  # pairs of query and class that the last NMS sees
GROUPS = 32  # of the group norm behind each input projection
PRIOR = 0.01  # chance of an object that a fresh class head gives


@dataclass(frozen=True)
class Answer:
    """Everything that a pass computes, for the losses and for `raw_outputs`."""

    layers: list[tuple[Tensor, Tensor]]  # logits (B, Q, K) and relative boxes (B, Q, 4) behind each decoder layer
    references: Tensor  # (B, Q, 4), what the first stage chose
    stage: FirstStage


@dataclass(frozen=True)
class Found:
    """Detections of one image in pixels of the original, best first."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    labels: Tensor  # (N,), int64

    def as_dict(self) -> dict[str, Tensor]:
        return {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}


class Neck(nn.Module):
    """The backbone and, from its one map of stride 16, maps of strides 8, 16 and 32."""

    def __init__(self, net: WindowedBackbone) -> None:
        super().__init__()
        self.net = net
        width = net.config.width
        self.fpn1 = nn.Sequential(nn.ConvTranspose2d(width, width // 2, 2, 2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, S, S), normalised, to p3 (half the tower's width), p4 and p5."""
        x = self.net(images.to(self.net.conv1.weight.dtype))
        return {"p3": self.fpn1(x), "p4": x, "p5": F.max_pool2d(x, 2)}


class DETA(nn.Module):
    """The published DETA: windowed PE tower, deformable transformer, boxes chosen and cleaned by NMS.

    Modules carry the published names, but for the backbone's, which `load_published` maps. Built under
    `torch.device("meta")`, it takes a checkpoint's tensors without a copy.
    """

    def __init__(self, vision: PEConfig | Mapping[str, Any], config: DETAConfig | Mapping[str, Any]) -> None:
        """
        Args:
            vision: the tower, or its fields; `image_size` is the position table's side in pixels, not the input's.
            config: the detector, or its fields.

        Raises:
            ConfigError: a field that does not exist, or values that cannot be.
        """
        super().__init__()
        self.config = config = as_config(DETAConfig, config)
        vision = as_config(PEConfig, vision)
        net = WindowedBackbone(
            vision, config.image_size, config.window_size, config.global_blocks, rope_grid=config.rope_grid
        )
        tokens = sum(side**2 for side in level_sides(net.grid, config.num_feature_levels))
        if tokens < config.num_queries:
            raise ConfigError(f"num_queries {config.num_queries} are more than the maps' {tokens} cells")
        self.transformer = DeformableTransformer(config)
        stages = config.decoder_layers + 1  # the last head is the first stage's
        self.class_embed = nn.ModuleList(nn.Linear(config.hidden_dim, config.num_classes) for _ in range(stages))
        self.bbox_embed = nn.ModuleList(BoxEmbedding(config.hidden_dim) for _ in range(stages))
        self.input_proj = _projections(vision.width, config)
        self.backbone = nn.Sequential(Neck(net))
        if not self.transformer.level_embed.is_meta:
            for head in self.class_embed:
                nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    @property
    def net(self) -> WindowedBackbone:
        return self.backbone[0].net  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        return self.net.conv1.weight.device

    def load_published(self, checkpoint: Mapping[str, Any]) -> None:
        """A published state dict, or a published file's content, strictly; see `published.load`.

        Raises:
            CheckpointError: a tensor is missing, not known or of another shape; its published name is told.
        """
        published.load(self, self.net, LAYOUT, checkpoint)

    def published_state_dict(self) -> dict[str, Tensor]:
        """The weights as a published file lists them; `load_published` takes them back."""
        return published.state_dict_of(self, self.net, LAYOUT)

    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, list[Size]]:
        """Pictures to a batch: the longer side at S - 32, the rest of the square zeros.

        Args:
            images: uint8 RGB tensors (3, H, W) of any sizes, or anything else that `midsight.images.load_image` takes.

        Returns:
            float32 (N, 3, S, S), normalised; each image's (height, width) within.

        Raises:
            InputError: not a list, or an empty one.
            MediaError, ShapeError: something that is no picture.
        """
        batch = self._batch(images)
        return batch.pixels, batch.resized

    @torch.no_grad()
    def forward(self, images: Sequence[Any]) -> list[dict[str, Tensor]]:
        """Detections in pixels of the original images, best first.

        Args:
            images: as `preprocess`.

        Returns:
            For each image boxes (N, 4) as x1, y1, x2, y2, float32, not clipped; scores (N,), float32; labels (N,),
            int64, which for the published model are COCO's category ids. At most `detections_per_image` with hard
            NMS; with soft-NMS all that keep a score above 0.001.

        Raises:
            As `preprocess`.
        """
        batch = self._batch(images)
        logits, boxes = self.answer(batch.pixels, batch.resized).layers[-1]
        parts = zip(logits, boxes, batch.original, strict=True)
        return [self._detections(*part, soft=self.config.soft_nms).as_dict() for part in parts]

    @torch.no_grad()
    def raw_outputs(self, images: Sequence[Any]) -> dict[str, Any]:
        """What the transformer says before any suppression.

        Returns:
            pred_logits (N, Q, C); pred_boxes (N, Q, 4) as centre x, centre y, width, height relative to the unpadded
            image; init_reference (N, Q, 4), the boxes that the first stage chose; enc_outputs with pred_logits
            (N, L, C), pred_boxes and anchors (N, L, 4) of the first stage at every cell.
        """
        batch = self._batch(images)
        answer = self.answer(batch.pixels, batch.resized)
        logits, boxes = answer.layers[-1]
        stage = answer.stage
        dense = {
            "pred_logits": stage.logits,
            "pred_boxes": stage.boxes.sigmoid(),
            "anchors": stage.anchors.sigmoid(),
        }
        return {
            "pred_logits": logits,
            "pred_boxes": boxes,
            "init_reference": answer.references,
            "enc_outputs": dense,
        }

    @torch.no_grad()
    def predict_tta(self, images: Sequence[Any]) -> list[dict[str, Tensor]]:
        """Detections from several sizes and their mirror images, joined by soft-NMS.

        The views are the base and `tta_sizes`, each also mirrored. Every view goes through soft-NMS by itself, and
        what it may contribute is limited by size (`tta_box_ranges`); then all go through soft-NMS together.

        Args:
            images: as `preprocess`.

        Returns:
            As `forward`, without a limit in number.
        """
        batch = self._batch(images)
        views: list[list[Found]] = [[] for _ in batch.original]
        for longest, limits in zip((None, *self.config.tta_sizes), self.config.tta_box_ranges, strict=True):
            for mirrored in (False, True):
                pixels, sizes = _view(batch, longest, mirrored)
                logits, boxes = self.answer(pixels, sizes).layers[-1]
                if mirrored:
                    boxes = torch.cat((1 - boxes[..., :1], boxes[..., 1:]), dim=-1)
                for index, original in enumerate(batch.original):
                    found = self._detections(logits[index], boxes[index], original, soft=True)
                    views[index].append(_of_size(found, limits))
        return [self._soften(_join(found)).as_dict() for found in views]

    def answer(self, pixels: Tensor, sizes: Sequence[Size]) -> Answer:
        """A whole pass.

        Args:
            pixels: (B, 3, S, S), normalised and padded.
            sizes: (height, width) of each image without its padding.
        """
        padding = torch.ones(len(sizes), 1, *pixels.shape[-2:], device=pixels.device)
        for mask, (height, width) in zip(padding, sizes, strict=True):
            mask[:, :height, :width] = 0
        return self.answer_padded(pixels, padding, self.transformer.choose)

    def answer_padded(
        self, pixels: Tensor, padding: Tensor, choose: Callable[[FirstStage, Sequence[Shape]], Tensor]
    ) -> Answer:
        """A whole pass.

        Args:
            pixels: (B, 3, S, S), normalised and padded.
            padding: float (B, 1, S, S), 1 on what is padding, else 0.
            choose: as `DeformableTransformer.choose`.
        """
        maps = self._project(list(self.backbone(pixels).values()))
        masks = [F.interpolate(padding, size=x.shape[-2:], mode="nearest")[:, 0] > 0.5 for x in maps]
        memory = self.transformer.encode(maps, masks)
        stage = self.transformer.first_stage(memory, self.class_embed[-1], self.bbox_embed[-1])
        queries = self.transformer.queries(stage, choose(stage, memory.shapes))
        layers = self.transformer.decode(memory, queries, self.class_embed, self.bbox_embed)
        return Answer(layers, queries[0], stage)

    def _project(self, maps: list[Tensor]) -> list[Tensor]:
        """The backbone's maps and what is made of the last one, all (B, hidden_dim, H, W)."""
        projected = [project(x) for project, x in zip(self.input_proj, maps, strict=False)]
        for index in range(len(maps), len(self.input_proj)):
            below = maps[-1] if index == len(maps) else projected[-1]
            projected.append(self.input_proj[index](below))
        return projected

    def _batch(self, images: Sequence[Any]) -> Batch:
        side = self.config.image_size
        return make_batch(images, side, lambda size: shorter_side_size(size, side - ROOM), DETA_PIXELS, self.device)

    def _detections(self, logits: Tensor, boxes: Tensor, original: Size, soft: bool) -> Found:
        """One image's logits (Q, K) and relative boxes (Q, 4) to detections."""
        scores = logits.sigmoid().flatten()
        scores, pair = scores.topk(min(PRE_SOFT_NMS if soft else PRE_NMS, len(scores)))
        height, width = original
        corners = ops.box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor((width, height, width, height))
        classes = logits.shape[1]
        found = Found(corners[pair // classes], scores, pair % classes)
        if soft:
            return self._soften(found)
        keep = ops.batched_nms(found.boxes, found.scores, found.labels, self.config.nms_threshold)
        keep = keep[: self.config.detections_per_image]
        return Found(found.boxes[keep], found.scores[keep], found.labels[keep])

    def _soften(self, found: Found) -> Found:
        index, scores = soft_nms(
            found.boxes,
            found.scores,
            found.labels,
            method=self.config.soft_nms_method,
            threshold=self.config.nms_threshold,
            quad_scale=self.config.quad_scale,
        )
        return Found(found.boxes[index], scores, found.labels[index])


def level_sides(grid: int, levels: int) -> list[int]:
    """Side of each level's map, cells, for a backbone's grid of that side."""
    sides = [2 * grid, grid, grid // 2]
    while len(sides) < levels:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _projections(width: int, config: DETAConfig) -> nn.ModuleList:
    dim = config.hidden_dim
    convs = [nn.Conv2d(inputs, dim, 1) for inputs in (width // 2, width, width)]
    below = [width] + [dim] * config.num_feature_levels
    convs += [nn.Conv2d(below[i], dim, 3, 2, padding=1) for i in range(config.num_feature_levels - 3)]
    for conv in convs:
        if not conv.weight.is_meta:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(GROUPS, dim)) for conv in convs)


def _view(batch: Batch, longest: int | None, mirrored: bool) -> tuple[Tensor, list[Size]]:
    """The batch with each picture's longer side at `longest` pixels (None: as it is), mirrored or not."""
    squares, sizes = [], []
    for square, (height, width) in zip(batch.pixels, batch.resized, strict=True):
        picture = square[:, :height, :width]
        if longest is not None:
            scale = longest / max(height, width)
            size = max(1, int(scale * height)), max(1, int(scale * width))
            picture = F.interpolate(picture[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        sizes.append((picture.shape[1], picture.shape[2]))
        squares.append(pad(picture.flip(-1) if mirrored else picture, square.shape[-1]))
    return torch.stack(squares), sizes


def _of_size(found: Found, limits: tuple[float, float]) -> Found:
    """The detections whose area lies between the squares of both limits."""
    area = ops.box_area(found.boxes)
    keep = (area > limits[0] ** 2) & (area < limits[1] ** 2)
    return Found(found.boxes[keep], found.scores[keep], found.labels[keep])


def _join(parts: Sequence[Found]) -> Found:
    return Found(
        torch.cat([p.boxes for p in parts]), torch.cat([p.scores for p in parts]), torch.cat([p.labels for p in parts])
    )
