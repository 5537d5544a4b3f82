"""A tower without a head, as PE-Spatial and PE-Lang are: no pooling, no projection, no final norm."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.checkpoints import Pretrained
from midsight.configs import PEConfig
from midsight.errors import ConfigError
from midsight.pe.vision import VisionTransformer

_POSITIONS = "positional_embedding"


def headless_config(core: PEConfig, image_size: int, layer_scale: float | None, drop_path: float) -> PEConfig:
    """A tower's configuration without its head.

    Args:
        layer_scale: put into all blocks; None leaves the tower's own, or none.

    Raises:
        ConfigError: a size that is no multiple of the patches.
    """
    if image_size % core.patch_size:
        raise ConfigError(f"image_size {image_size}: not a multiple of the start's patch_size {core.patch_size}")
    return replace(
        core, image_size=image_size, pool_type="none", output_dim=None, use_ln_post=False, drop_path=drop_path,
        ls_init_value=core.ls_init_value if layer_scale is None else layer_scale,
    )  # fmt: skip


def headless(found: Pretrained, image_size: int) -> VisionTransformer:
    """A tower with its own blocks and without a head, its positions at another size."""
    tower = VisionTransformer(headless_config(found.vision, image_size, None, 0.0))
    tower.load_state_dict(headless_weights(found.state_dict, tower))
    return tower


def headless_weights(weights: dict[str, Tensor], tower: VisionTransformer) -> dict[str, Tensor]:
    """Weights of a pair or a tower under a headless tower's names, float32, positions at its size.

    Blocks that the tower does not have are left out.
    """
    known = tower.state_dict()
    values = {key.removeprefix("visual."): value.float() for key, value in weights.items()}
    values = {key: value for key, value in values.items() if key in known}
    if _POSITIONS in values:
        grid, first = tower.config.grid, tower.use_cls_token
        values[_POSITIONS] = resample_positions(values[_POSITIONS], grid, first)
    return values


def resample_positions(table: Tensor, grid: int, class_token: bool) -> Tensor:
    """A position table (rows, W) for another square grid: class row kept, the rest bilinear, as the tower does it."""
    first = int(class_token)
    native = math.isqrt(len(table) - first)
    if native == grid:
        return table
    squares = table[first:].unflatten(0, (native, native)).permute(2, 0, 1)[None]  # 1, W, rows, columns
    resized = F.interpolate(squares, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat((table[:first], resized[0].flatten(1).T))
