"""The detectors' backbone: a PE tower whose blocks attend within windows, but for a few that see the whole picture.

As published (`apps/detection` beside the paper's code; PE paper, B.3.4 and tables 24 and 25): the position table is
tiled over the grid, RoPE positions are scaled to the grid that the tower was trained on, and the result is the last
block's output without a final norm. A grid that the windows do not divide is padded with zeros behind `ln_1`; padded
tokens take part in attention and are then dropped.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from midsight.configs import PEConfig
from midsight.errors import ConfigError, ShapeError
from midsight.pe import stem
from midsight.pe.blocks import NORM_EPS, ResidualAttentionBlock, Transformer, normal_parameter
from midsight.pe.rope import Rope, angles_at
from midsight.pe.vision import check_images


class WindowedBackbone(nn.Module):
    """Square images to one feature map of stride `patch_size`.

    Parameters have the vision tower's published names; class token, final norm, pooling and projection are not used
    and not there.
    """

    def __init__(
        self,
        config: PEConfig,
        image_size: int,
        window_size: int,
        global_blocks: Sequence[int],
        tile_positions: bool = True,
        rope_grid: float | None = None,
    ) -> None:
        """
        Args:
            config: of the pretrained tower; its `image_size` gives the side of the position table.
            image_size: side of the input, pixels.
            window_size: side of a window, tokens.
            global_blocks: 0-based indices of the blocks that see the whole grid.
            tile_positions: repeat the position table from the top left corner (AbsWin); else resize it bicubically.
            rope_grid: length, in RoPE positions, of a window's side and of the grid's; None: the table's side.

        Raises:
            ConfigError: sizes that cannot be, or a block that the tower does not have.
        """
        super().__init__()
        _check_sizes(config, image_size, window_size, global_blocks)
        self.config, self.image_size, self.window_size = config, image_size, window_size
        self.global_blocks = frozenset(global_blocks)
        self.tile_positions = tile_positions
        self.rope_grid = config.grid if rope_grid is None else rope_grid
        self.grid = image_size // config.patch_size
        width = config.width
        if config.stem == "patch":
            self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        else:
            self.stem = stem.build(config.stem)
            self.conv1 = nn.Conv2d(self.stem.out_channels, width, 1, bias=False)
        if config.use_abs_posemb:
            rows = config.grid**2 + int(config.use_cls_token)
            self.positional_embedding = normal_parameter(rows, width, std=width**-0.5)
        self.ln_pre = nn.LayerNorm(width, eps=NORM_EPS) if config.use_ln_pre else nn.Identity()
        self.transformer = Transformer(
            [
                ResidualAttentionBlock(width, config.heads, config.mlp_ratio, config.ls_init_value, config.drop_path)
                for _ in range(config.layers)
            ]
        )
        self._ropes: dict[tuple[int, torch.device], Rope] = {}
        self._checkpointing = False

    @property
    def layers(self) -> int:
        """Blocks of the tower."""
        return len(self.transformer.resblocks)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self._checkpointing = enable

    def forward(self, images: Tensor) -> Tensor:
        """The last block's output.

        Args:
            images: float (B, 3, S, S), normalised as the detector expects.

        Returns:
            (B, width, S / patch_size, S / patch_size).

        Raises:
            ShapeError: images of another shape or dtype.
        """
        check_images(images, self.config.patch_size)
        if images.shape[-2:] != (self.image_size, self.image_size):
            found = " x ".join(map(str, images.shape[-2:]))
            raise ShapeError(f"this backbone takes {self.image_size} x {self.image_size} pixels, got {found}; pad them")
        x = self.conv1(self.stem(images) if self.config.stem != "patch" else images)
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        if self.config.use_abs_posemb:
            x = x + self._positions().to(x.dtype)
        x = self.ln_pre(x)
        for index, module in enumerate(self.transformer.resblocks):
            block = cast(ResidualAttentionBlock, module)
            window = self.grid if index in self.global_blocks else self.window_size
            rope = self.rope(window, x.device) if self.config.use_rope2d else None
            if self._checkpointing and torch.is_grad_enabled():
                x = checkpoint(windowed_block, block, x, window, rope, use_reentrant=False)
            else:
                x = windowed_block(block, x, window, rope)
        return x.permute(0, 3, 1, 2)

    def rope(self, side: int, device: torch.device) -> Rope:
        """The rotations of a square of `side` tokens, which spans `rope_grid` positions, whatever its side."""
        if torch.compiler.is_exporting():  # a traced table belongs to the trace
            return self._new_rope(side, device)
        key = (side, device)
        if key not in self._ropes:
            with torch.inference_mode(False):  # the table outlives this call and may serve a backward pass
                self._ropes[key] = self._new_rope(side, device)
        return self._ropes[key]

    def _new_rope(self, side: int, device: torch.device) -> Rope:
        # from 1, as published; attention sees only differences
        at = torch.arange(side, device=device, dtype=torch.float32) / side * self.rope_grid + 1
        return Rope(angles_at(at, at, self.config.width // self.config.heads))

    def _positions(self) -> Tensor:
        """The position table over the grid, (H, W, C)."""
        native, grid = self.config.grid, self.grid
        table = self.positional_embedding[-(native**2) :].unflatten(0, (native, native))
        if native == grid:
            return table
        if self.tile_positions:
            times = -(-grid // native)
            return table.repeat(times, times, 1)[:grid, :grid]
        resized = F.interpolate(table.permute(2, 0, 1)[None], size=(grid, grid), mode="bicubic", align_corners=False)
        return resized[0].permute(1, 2, 0)


def windowed_block(block: ResidualAttentionBlock, x: Tensor, window: int, rope: Rope | None) -> Tensor:
    """One published block on a map (B, H, W, C), with attention within squares of `window` tokens."""
    height, width = x.shape[1:3]
    squares = split_windows(block.ln_1(x), window)  # B * windows, window * window, C
    attended = join_windows(block.attn(squares, rope), window, height, width)
    x = x + block.drop_path(block.ls_1(attended))
    return x + block.drop_path(block.ls_2(block.mlp(block.ln_2(x))))


def split_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) to (B * windows, window * window, C), padded with zeros at the bottom and the right."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # B, rows, window, columns, window, C
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def join_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The reverse of `split_windows`: (B * windows, window * window, C) to (B, height, width, C), padding dropped."""
    rows, columns = -(-height // window), -(-width // window)
    x = x.reshape(-1, rows, columns, window, window, x.shape[-1]).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _check_sizes(config: PEConfig, image_size: int, window_size: int, global_blocks: Sequence[int]) -> None:
    if image_size < config.patch_size or image_size % config.patch_size:
        raise ConfigError(f"image_size {image_size} is not a multiple of patch_size {config.patch_size}")
    if window_size < 1:
        raise ConfigError(f"window_size must be at least 1 token, got {window_size}")
    outside = [index for index in global_blocks if not 0 <= index < config.layers]
    if outside:
        raise ConfigError(f"global_blocks names {outside}, but the tower has blocks 0 to {config.layers - 1}")
