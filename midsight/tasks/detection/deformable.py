"""Deformable attention over several maps, by `grid_sample`, and the layers built on it.

Source: Deformable DETR (arXiv 2010.04159), section 4.1 and appendix A.1. Letters: B batch, Q queries, N tokens of all
levels, C channels, H heads, L levels, P points.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int]  # rows, columns
TEMPERATURE = 10_000.0


def deformable_attention(value: Tensor, shapes: Sequence[Shape], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted samples of several maps, bilinear, with zeros outside.

    Args:
        value: (B, N, H, D), the maps one after the other, each in raster order.
        shapes: (rows, columns) of each map.
        locations: (B, Q, H, L, P, 2), x and y from 0 to 1.
        weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H * D).
    """
    batch, _, heads, dim = value.shape
    total: Tensor | None = None
    maps = value.split([rows * columns for rows, columns in shapes], dim=1)
    for level, (x, shape) in enumerate(zip(maps, shapes, strict=True)):
        x = x.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shape)
        at = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1  # B * H, Q, P, 2
        sampled = F.grid_sample(x, at, mode="bilinear", padding_mode="zeros", align_corners=False)  # B * H, D, Q, P
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]  # B * H, 1, Q, P
        part = (sampled * share).sum(dim=-1)  # summed at once, so that one level's samples are kept and not all
        total = part if total is None else total + part
    assert total is not None
    return total.view(batch, heads * dim, -1).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Each query looks at a few points of every map, which it chooses itself."""

    def __init__(self, dim: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        if not self.value_proj.weight.is_meta:
            self._initialize()

    def _initialize(self) -> None:
        """Points on eight rays, as in the paper's appendix; no head prefers one of them."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        rays = torch.stack((angles.cos(), angles.sin()), dim=1)
        rays = rays / rays.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None]
        offsets = (rays[:, None, None] * steps).expand(-1, self.levels, -1, -1)  # H, L, P, 2
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(
        self, query: Tensor, references: Tensor, memory: Tensor, shapes: Sequence[Shape], padding: Tensor
    ) -> Tensor:
        """
        Args:
            query: (B, Q, C), with its position added.
            references: points (B, Q, L, 2) or boxes (B, Q, L, 4) as centre x, centre y, width, height; 0 to 1.
            memory: (B, N, C).
            shapes: (rows, columns) of each map.
            padding: bool (B, N), True where a token is none of the picture's.

        Returns:
            (B, Q, C).
        """
        value = self.value_proj(memory).masked_fill(padding[..., None], 0.0).unflatten(-1, (self.heads, -1)).float()
        sizes = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).float().unflatten(-1, (*sizes, 2))  # B, Q, H, L, P, 2
        weights = self.attention_weights(query).float().unflatten(-1, (self.heads, -1)).softmax(dim=-1)
        weights = weights.unflatten(-1, sizes[1:])  # B, Q, H, L, P
        centre = references[:, :, None, :, None, :2]
        if references.shape[-1] == 2:
            scale = offsets.new_tensor([(columns, rows) for rows, columns in shapes])  # L, 2
            locations = centre + offsets / scale[:, None]
        else:
            locations = centre + offsets / self.points * references[:, :, None, :, None, 2:] * 0.5
        return self.output_proj(deformable_attention(value, shapes, locations, weights).to(query.dtype))


class EncoderLayer(nn.Module):
    """Deformable self-attention over all maps and a feed-forward net, each followed by its norm."""

    def __init__(self, dim: int, hidden: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, levels, heads, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, position: Tensor, references: Tensor, shapes: Sequence[Shape], padding: Tensor
    ) -> Tensor:
        """Tokens (B, N, C) to tokens; `position` (B, N, C) is added to the queries."""
        x = self.norm1(x + self.self_attn(x + position, references, x, shapes, padding))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class DecoderLayer(nn.Module):
    """Self-attention among the queries, deformable attention to the maps, a feed-forward net.

    The published names are crossed: norm2 follows the first, norm1 the second.
    """

    def __init__(self, dim: int, hidden: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.cross_attn = DeformableAttention(dim, levels, heads, points)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        references: Tensor,
        memory: Tensor,
        shapes: Sequence[Shape],
        padding: Tensor,
    ) -> Tensor:
        """Queries (B, Q, C) to queries; `references` are boxes (B, Q, L, 4)."""
        with_position = x + position
        x = self.norm2(x + self.self_attn(with_position, with_position, x, need_weights=False)[0])
        x = self.norm1(x + self.cross_attn(x + position, references, memory, shapes, padding))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


def sine_code(x: Tensor, channels: int) -> Tensor:
    """Numbers (...) to sines and cosines in turn (..., channels), of wavelengths 2 pi to 2 pi * 10000."""
    exponents = 2 * torch.arange(channels // 2, device=x.device, dtype=torch.float32) / channels
    angles = x[..., None] / TEMPERATURE**exponents
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def grid_code(padding: Tensor, channels: int) -> Tensor:
    """Positions of a map as sines, half of the channels for the row and half for the column.

    Args:
        padding: bool (B, H, W), True where a cell is none of the picture's.

    Returns:
        (B, H, W, channels).
    """
    valid = (~padding).float()
    y, x = valid.cumsum(dim=1), valid.cumsum(dim=2)
    y = (y - 0.5) / (y[:, -1:] + 1e-6) * (2 * math.pi)
    x = (x - 0.5) / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    return torch.cat((sine_code(y, channels // 2), sine_code(x, channels // 2)), dim=-1)
