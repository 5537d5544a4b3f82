"""A plain PE tower's weights made ready for a detector: another patch size, another position table.

Source: the published conversion script (`apps/detection/tools/convert_d2.py`).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import CheckpointError, ConfigError


def convert_checkpoint(
    weights: Mapping[str, Tensor], patch_size: int = 16, grid: int | None = None, class_token: bool = False
) -> dict[str, Tensor]:
    """Vision weights with the patch convolution, and if asked the position table, resized bicubically.

    Args:
        weights: a vision tower's, under the published names.
        patch_size: side of the patches wanted, pixels.
        grid: side of the position table wanted, tokens; None keeps the table as it is.
        class_token: whether the table's first row is the class token's, which stays as it was.

    Returns:
        The same names; what is not resized is the same tensor.

    Raises:
        CheckpointError: no patch convolution, or a table that is no square.
        ConfigError: sizes below 1.
    """
    if patch_size < 1 or (grid is not None and grid < 1):
        raise ConfigError(f"patch_size and grid must be at least 1, got {patch_size} and {grid}")
    converted = dict(weights)
    converted["conv1.weight"] = _resize_patches(weights, patch_size)
    if grid is not None and "positional_embedding" in weights:
        converted["positional_embedding"] = _resize_table(weights["positional_embedding"], grid, class_token)
    return converted


def _resize_patches(weights: Mapping[str, Tensor], patch_size: int) -> Tensor:
    kernel = weights.get("conv1.weight")
    if kernel is not None and any(name.startswith("stem.") for name in weights):
        return kernel  # a packaged trunk's patches are what it makes them
    if kernel is None or kernel.ndim != 4 or kernel.shape[1] != 3:
        found = "is missing" if kernel is None else f"has the shape {tuple(kernel.shape)}"
        raise CheckpointError(f"conv1.weight {found}, expected (width, 3, patch, patch) of a vision tower alone")
    if kernel.shape[-2:] == (patch_size, patch_size):
        return kernel
    return _bicubic(kernel, patch_size)


def _resize_table(table: Tensor, grid: int, class_token: bool) -> Tensor:
    rows = table.reshape(-1, table.shape[-1])  # a leading batch axis, as in detectors, is dropped
    first, patches = rows.split((int(class_token), len(rows) - int(class_token)))
    side = round(len(patches) ** 0.5)
    if side * side != len(patches):
        raise CheckpointError(
            f"positional_embedding has {len(patches)} rows for patches, expected a square number; "
            f"class_token was {class_token}"
        )
    if side == grid:
        return rows
    resized = _bicubic(patches.T.unflatten(1, (side, side))[None], grid)  # 1, C, grid, grid
    return torch.cat((first, resized[0].flatten(1).T))


def _bicubic(x: Tensor, side: int) -> Tensor:
    resized = F.interpolate(x.float(), size=(side, side), mode="bicubic", align_corners=False)
    return resized.to(x.dtype)
