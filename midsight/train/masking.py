"""Masked views of images for mask regularisation: some patch embeddings are replaced by one learned vector.

The vector belongs to training, not to the model: checkpoints of the model keep the published names, and nothing of
the tower changes. Not published, and chosen here: patches are drawn independently and uniformly, the same number in
every image; the learned vector takes the place of the patch embedding before positions are added.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from midsight import pe
from midsight.errors import ShapeError


def draw_masks(seed: int, step: int, rows: Sequence[int], patches: int, ratio: float) -> Tensor:
    """Which patches are hidden, bool (rows, patches); the same for a row however the batch is cut.

    Args:
        seed, step: of the run.
        rows: places in the whole batch.
        ratio: share of patches to hide, rounded to a whole number of patches, at least one.
    """
    hidden = torch.zeros(len(rows), patches, dtype=torch.bool)
    count = max(1, round(patches * ratio))
    for index, row in enumerate(rows):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 1_000_003 + row & (1 << 63) - 1)
        hidden[index, torch.randperm(patches, generator=generator)[:count]] = True
    return hidden


def draw_blocks(seed: int, step: int, rows: Sequence[int], grid: tuple[int, int], ratio: float, block: int) -> Tensor:
    """As `draw_masks`, but hiding squares of `block` x `block` patches, bool (rows, patches in raster order).

    Squares that the grid cuts off at its right and bottom count as whole ones.
    """
    high, wide = (-(-side // block) for side in grid)
    hidden = draw_masks(seed, step, rows, high * wide, ratio).unflatten(1, (high, wide))
    hidden = hidden.repeat_interleave(block, 1).repeat_interleave(block, 2)  # rows, at least H, at least W
    return hidden[:, : grid[0], : grid[1]].flatten(1)


def masked_rows(batch: int, fraction: float) -> list[int]:
    """Places in the whole batch whose images are masked: evenly spread, `fraction` of them, at least one."""
    every = max(1, math.floor(1 / fraction))
    return list(range(0, batch, every))


@contextmanager
def hide_patches(tower: pe.VisionTransformer, hidden: Tensor, mask_token: Tensor) -> Iterator[None]:
    """Within the block, the tower sees `mask_token` in place of the patch embeddings that `hidden` marks.

    Args:
        hidden: bool (B, N), N the patches in raster order.
        mask_token: float (W,).

    Raises:
        ShapeError: in the tower's pass, where its patches are not (B, N).
    """

    def replace(_: nn.Module, __: object, patches: Tensor) -> Tensor:  # patches: B, W, rows, columns
        if (patches.shape[0], patches.shape[2] * patches.shape[3]) != hidden.shape:
            raise ShapeError(f"the mask is {tuple(hidden.shape)}, the patches are {tuple(patches.shape)}")
        where = hidden.to(patches.device).unflatten(1, patches.shape[2:]).unsqueeze(1)
        return torch.where(where, mask_token.to(patches.dtype)[None, :, None, None], patches)

    handle = tower.conv1.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
