"""DETA's transformer: encoder over five maps, a dense first stage, the choice of queries by NMS, the decoder.

Sources: DETA (arXiv 2212.06137); Deformable DETR (arXiv 2010.04159); the published code of `apps/detection/DETA_pe`.
Letters: B batch, Q queries, N tokens of all levels, C channels, L levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.tasks.detection.config import DETAConfig
from midsight.tasks.detection.deformable import DecoderLayer, EncoderLayer, Shape, grid_code, sine_code
from midsight.tasks.detection.operators import ops

ANCHOR_SIZE = 0.05  # of the picture, on the first level; doubled with each
MARGIN = 0.01  # an anchor is used where all four of its numbers keep so far from 0 and 1
PRE_NMS = 1000  # first-stage boxes of each level that the NMS sees
FIRST_NMS = 0.9
EPS = 1e-5  # least distance of a refined box's numbers from 0 and 1


@dataclass(frozen=True)
class Memory:
    """What the encoder made of the maps."""

    tokens: Tensor  # (B, N, C)
    padding: Tensor  # bool (B, N)
    shapes: list[Shape]
    masks: list[Tensor]  # padding of each map, bool (B, H, W)
    ratios: Tensor  # (B, L, 2), share of each map's width and height that is picture


@dataclass(frozen=True)
class FirstStage:
    """A box and scores at every token."""

    features: Tensor  # (B, N, C)
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4), logits of centre x, centre y, width, height
    anchors: Tensor  # (B, N, 4), logits; infinite where there is none


class BoxEmbedding(nn.Module):
    """Three linear maps with ReLU between, from a query to a change of its box."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, 4)))
        if not self.layers[2].weight.is_meta:
            nn.init.zeros_(self.layers[2].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.layers[2].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class _Layers(nn.Module):
    """The published container of layers."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class DeformableTransformer(nn.Module):
    """Encoder, first stage and decoder, under the published names."""

    def __init__(self, config: DETAConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels = config.hidden_dim, config.num_feature_levels
        sizes = (dim, config.feedforward_dim, levels, config.heads, config.points)
        self.level_embed = nn.Parameter(torch.empty(levels, dim))
        self.encoder = _Layers([EncoderLayer(*sizes) for _ in range(config.encoder_layers)])
        self.decoder = _Layers([DecoderLayer(*sizes) for _ in range(config.decoder_layers)])
        self.enc_output = nn.Linear(dim, dim)
        self.enc_output_norm = nn.LayerNorm(dim)
        self.pos_trans = nn.Linear(2 * dim, 2 * dim)
        self.pos_trans_norm = nn.LayerNorm(2 * dim)
        self.pix_trans = nn.Linear(dim, dim)
        self.pix_trans_norm = nn.LayerNorm(dim)
        if not self.level_embed.is_meta:
            nn.init.normal_(self.level_embed)

    def encode(self, maps: Sequence[Tensor], masks: Sequence[Tensor]) -> Memory:
        """
        Args:
            maps: (B, C, H, W) of each level.
            masks: bool (B, H, W), True on padding.
        """
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        codes = [
            grid_code(mask, self.config.hidden_dim).flatten(1, 2) + embed
            for mask, embed in zip(masks, self.level_embed, strict=True)
        ]
        position = torch.cat(codes, dim=1).to(tokens.dtype)
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        ratios = torch.stack([valid_size(mask) / size_of(mask) for mask in masks], dim=1)  # B, L, 2
        references = torch.cat([cell_centres(mask) for mask in masks], dim=1)[:, :, None] * ratios[:, None]
        for layer in self.encoder.layers:
            tokens = layer(tokens, position, references, shapes, padding)
        return Memory(tokens, padding, shapes, list(masks), ratios)

    def first_stage(self, memory: Memory, class_embed: nn.Module, bbox_embed: nn.Module) -> FirstStage:
        """Scores and a box for every token; padding and cells without an anchor have features of zero."""
        anchors = torch.cat([anchor_logits(mask, level) for level, mask in enumerate(memory.masks)], dim=1)
        unused = memory.padding | anchors.isinf().any(dim=-1)
        anchors = anchors.masked_fill(unused[..., None], math.inf)
        features = self.enc_output_norm(self.enc_output(memory.tokens.masked_fill(unused[..., None], 0.0)))
        return FirstStage(features, class_embed(features).float(), bbox_embed(features).float() + anchors, anchors)

    def choose(self, stage: FirstStage, shapes: Sequence[Shape]) -> Tensor:
        """Indices (B, Q) of the tokens that become queries."""
        levels = torch.cat([torch.full((rows * columns,), i) for i, (rows, columns) in enumerate(shapes)])
        levels = levels.to(stage.logits.device)
        boxes = stage.boxes.detach().sigmoid()
        count = self.config.num_queries
        chosen = [
            choose_queries(box, score, levels, count)
            for box, score in zip(boxes, stage.logits[..., 0].detach(), strict=True)
        ]
        return torch.stack(chosen)

    def queries(self, stage: FirstStage, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chosen tokens (B, Q) as queries: boxes (B, Q, 4), relative; content (B, Q, C); position (B, Q, C)."""
        index, boxes = chosen[..., None], stage.boxes.detach().sigmoid()
        references = boxes.gather(1, index.expand(-1, -1, 4))
        code = sine_code(references * (2 * math.pi), self.config.hidden_dim // 2).flatten(2)  # B, Q, 2C
        code = self.pos_trans_norm(self.pos_trans(code.to(self.pos_trans.weight.dtype)))
        position, content = code.chunk(2, dim=-1)
        features = stage.features.gather(1, index.expand(-1, -1, stage.features.shape[-1])).detach()
        return references, content + self.pix_trans_norm(self.pix_trans(features)), position

    def decode(
        self,
        memory: Memory,
        queries: tuple[Tensor, Tensor, Tensor],
        class_embed: nn.ModuleList,
        bbox_embed: nn.ModuleList,
    ) -> list[tuple[Tensor, Tensor]]:
        """Logits (B, Q, K) and relative boxes (B, Q, 4) behind each layer, each refining the boxes before it."""
        references, x, position = queries
        ratios = torch.cat((memory.ratios, memory.ratios), dim=-1)[:, None]  # B, 1, L, 4
        outputs = []
        for index, layer in enumerate(self.decoder.layers):
            x = layer(x, position, references[:, :, None] * ratios, memory.tokens, memory.shapes, memory.padding)
            boxes = (bbox_embed[index](x).float() + inverse_sigmoid(references)).sigmoid()
            outputs.append((class_embed[index](x).float(), boxes))
            references = boxes.detach()
        return outputs


def valid_size(mask: Tensor) -> Tensor:
    """Columns and rows of a map that are picture, (B, 2), from its padding (B, H, W)."""
    return torch.stack(((~mask[:, 0]).sum(dim=1), (~mask[:, :, 0]).sum(dim=1)), dim=1).float()


def size_of(mask: Tensor) -> Tensor:
    """Columns and rows of a map, (2,)."""
    return torch.tensor((mask.shape[2], mask.shape[1]), dtype=torch.float32, device=mask.device)


def cell_centres(mask: Tensor) -> Tensor:
    """Centres x, y of a map's cells, relative to the part that is picture, (B, H * W, 2)."""
    rows, columns = mask.shape[1:]
    y, x = (torch.arange(n, device=mask.device, dtype=torch.float32) + 0.5 for n in (rows, columns))
    return torch.cartesian_prod(y, x).flip(1)[None] / valid_size(mask)[:, None]


def anchor_logits(mask: Tensor, level: int) -> Tensor:
    """Anchors of a map's cells as logits (B, H * W, 4); infinite where they come too near to the picture's edge."""
    centres = cell_centres(mask)
    anchors = torch.cat((centres, torch.full_like(centres, ANCHOR_SIZE * 2.0**level)), dim=-1)
    usable = ((anchors > MARGIN) & (anchors < 1 - MARGIN)).all(dim=-1, keepdim=True)
    return (anchors / (1 - anchors)).log().where(usable, anchors.new_tensor(math.inf))


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Logits, of what is kept off 0 and 1."""
    x = x.clamp(0, 1)
    return (x.clamp(min=EPS) / (1 - x).clamp(min=EPS)).log()


def choose_queries(boxes: Tensor, scores: Tensor, levels: Tensor, count: int) -> Tensor:
    """Indices (count,) of the first stage's boxes that become queries, best first, every level with its share.

    Args:
        boxes: (N, 4), centre x, centre y, width, height.
        scores: (N,).
        levels: (N,), the level of each, counted from 0.
        count: how many; where NMS leaves fewer, the best of all are taken without NMS.
    """
    candidates = torch.cat([_best_of(scores, levels == level) for level in levels.unique()])
    corners = ops.box_convert(boxes[candidates], "cxcywh", "xyxy").clamp(0, 1)
    kept = candidates[ops.batched_nms(corners, scores[candidates], levels[candidates], FIRST_NMS)]
    if len(kept) < count:
        return scores.topk(count).indices
    share = count // int(levels.max() + 1)
    of_level = F.one_hot(levels[kept])
    rank = (of_level.cumsum(dim=0) * of_level).sum(dim=1)  # 1 for the best of its level
    chosen = rank <= share
    rest = (~chosen).nonzero().squeeze(1)[: count - int(chosen.sum())]
    chosen[rest] = True
    return kept[chosen.nonzero().squeeze(1)[:count]]


def _best_of(scores: Tensor, here: Tensor) -> Tensor:
    inside = here.nonzero().squeeze(1)
    return inside[scores[inside].topk(min(PRE_NMS, len(inside))).indices]
