"""From the tower's tokens to the language model's: two linear layers, then fewer tokens by pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ShapeError


class Projector(nn.Module):
    """(B, N, width) to (B, N / ratio^2, dim); N is a square grid.

    Source: published `vision_projector/mlp.py`; pooling comes behind the linear layers.
    """

    def __init__(self, width: int, dim: int, pooling_ratio: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))
        self.dim, self.pooling_ratio = dim, pooling_ratio

    def forward(self, x: Tensor) -> Tensor:
        return pool_grid(self.projector(x), self.pooling_ratio)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Weights and biases drawn anew: truncated normal, standard deviation dim^-0.5, as published."""
        for parameter in self.projector.parameters():
            nn.init.trunc_normal_(parameter, std=self.dim**-0.5)


def pool_grid(x: Tensor, ratio: int) -> Tensor:
    """Tokens (B, N, W) of a square grid averaged over squares of `ratio`, (B, N / ratio^2, W).

    Raises:
        ShapeError: N is no square, or its side no multiple of `ratio`.
    """
    if ratio == 1:
        return x
    side = round(x.shape[1] ** 0.5)
    if side * side != x.shape[1] or side % ratio:
        raise ShapeError(f"{x.shape[1]} tokens are no square grid whose side is a multiple of {ratio}")
    maps = x.transpose(1, 2).unflatten(2, (side, side))  # B, W, side, side
    return F.avg_pool2d(maps, ratio).flatten(2).transpose(1, 2)  # the same as adaptive where the ratio divides
