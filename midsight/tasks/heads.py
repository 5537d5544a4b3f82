"""Heads over feature maps of a frozen encoder, shared by segmentation and depth: small modules, maps in, maps out.

Sources: DINOv2's linear probe (BatchNorm and a 1x1 convolution); DPT (Ranftl and others, 2021) as DINOv2 uses it.
PE's head sizes are not published beyond "scaled with hidden size" (PE paper, B.3.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ConfigError, ShapeError

Kind = Literal["linear", "bn_linear", "dpt"]
KINDS = ("linear", "bn_linear", "dpt")
LEVELS = 4  # of DPT's pyramid


@dataclass(frozen=True)
class HeadConfig:
    """The shape of a head; saved beside its weights."""

    width: int  # channels of each map
    outputs: int  # classes, or bins of depth
    kind: Kind = "bn_linear"
    inputs: int = 1  # maps; linear heads put their channels together, DPT spreads them over its levels
    features: int = 0  # DPT: channels of the fusion; 0 is a quarter of the width (256 for ViT-L, as published)
    dropout: float = 0.0  # of whole channels, before the last convolution

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind of head must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if min(self.width, self.outputs, self.inputs) < 1 or self.features < 0 or not 0 <= self.dropout < 1:
            raise ConfigError(f"a head needs width, outputs and inputs of at least 1, and dropout below 1; got {self}")
        if self.kind == "dpt" and self.inputs not in (1, LEVELS):
            raise ConfigError(f"a DPT head takes 1 map or {LEVELS}, got {self.inputs}")


def build_head(config: HeadConfig) -> nn.Module:
    """The head of a configuration: a list of `inputs` maps (B, width, h, w) to (B, outputs, h', w').

    Linear heads keep the grid; DPT's is 8 times as fine.
    """
    return DPT(config) if config.kind == "dpt" else LinearProbe(config)


class LinearProbe(nn.Module):
    """A linear map of each token, behind a BatchNorm where the kind is "bn_linear"."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.width * config.inputs
        self.norm = nn.BatchNorm2d(channels) if config.kind == "bn_linear" else nn.Identity()
        self.dropout = nn.Dropout2d(config.dropout)
        self.linear = nn.Conv2d(channels, config.outputs, 1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, width, h, w) of one grid to (B, outputs, h, w)."""
        check_maps(maps, self.config)
        return self.linear(self.dropout(self.norm(torch.cat(list(maps), dim=1))))


class DPT(nn.Module):
    """Maps of one grid become a pyramid of four levels, which is fused from the coarsest to the finest.

    One map alone feeds all four levels.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width, features = config.width, config.features or max(8, config.width // 4)
        sizes = [max(1, width // 2 ** (LEVELS - 1 - level)) for level in range(LEVELS)]
        self.project = nn.ModuleList(nn.Conv2d(width, size, 1) for size in sizes)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(sizes[0], sizes[0], 4, stride=4),
                nn.ConvTranspose2d(sizes[1], sizes[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(sizes[3], sizes[3], 3, stride=2, padding=1),
            ]
        )
        self.gather = nn.ModuleList(nn.Conv2d(size, features, 3, padding=1, bias=False) for size in sizes)
        self.fuse = nn.ModuleList(Fusion(features, beside=level < LEVELS - 1) for level in range(LEVELS))
        self.before = nn.Conv2d(features, features, 3, padding=1)
        self.dropout = nn.Dropout2d(config.dropout)
        self.last = nn.Conv2d(features, config.outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """1 or 4 maps (B, width, h, w), from shallow to deep, to (B, outputs, 8h, 8w)."""
        check_maps(maps, self.config)
        maps = list(maps) * LEVELS if len(maps) == 1 else list(maps)
        parts = zip(maps, self.project, self.resize, self.gather, strict=True)
        levels = [gather(resize(project(x))) for x, project, resize, gather in parts]  # 4h, 2h, h, h/2
        x = None
        for level in reversed(range(LEVELS)):
            finer = levels[level - 1].shape[-2:] if level else tuple(2 * side for side in levels[0].shape[-2:])
            x = self.fuse[level](levels[level], x, finer)
        return self.last(self.dropout(F.relu(self.before(x))))


class Fusion(nn.Module):
    """One level joined with what comes from the coarser ones, refined and enlarged."""

    def __init__(self, features: int, beside: bool) -> None:
        super().__init__()
        self.own = Residual(features) if beside else None  # the coarsest level has nothing to be joined with
        self.both = Residual(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, coarser: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, F, h, w), and the same from the coarser level, to (B, F, *size)."""
        if self.own is not None and coarser is not None:
            x = coarser + self.own(x)
        x = F.interpolate(self.both(x), size=size, mode="bilinear", align_corners=True)
        return self.out(x)


class Residual(nn.Module):
    """Two convolutions with activations before them, and a shortcut."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def check_maps(maps: Sequence[Tensor], config: HeadConfig) -> None:
    """
    Raises:
        ShapeError: another number of maps, another width, or grids that differ.
    """
    shapes = [tuple(found.shape) for found in maps]
    if len(maps) != config.inputs or any(len(s) != 4 or s[1] != config.width or s != shapes[0] for s in shapes):
        raise ShapeError(f"expected {config.inputs} maps (B, {config.width}, h, w) of one grid, got {shapes}")
