"""Two-dimensional rotary position embedding (PE paper, section 2.1; published `rope.py`).

The head's channels are split in halves: the first turns with the column of a patch, the second with its row. Channels
turn in adjacent pairs. Positions are plain indices at every resolution; a class token stands at angle 0 and moves the
patches to start at 1.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

THETA = 10_000.0
MAX_TABLES = 8  # grids kept; videos and mixed sizes need a few, a service with free sizes must not grow without end


@dataclass(frozen=True)
class Rope:
    """The angles of one token grid.

    Attributes:
        angles: float32 (N, D / 2), radians, one per channel pair.
    """

    angles: Tensor

    @cached_property
    def cis(self) -> Tensor:
        """cos + i sin, complex64 (N, D / 2); for inference on a CPU, which multiplies complex numbers in one pass."""
        return torch.polar(torch.ones_like(self.angles), self.angles)

    @cached_property
    def cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines, float32 (N, D / 2) each."""
        with torch.inference_mode(False):  # the table outlives this call and may serve a backward pass
            return self.angles.cos(), self.angles.sin()

    def rotate(self, x: Tensor) -> Tensor:
        """Turn queries or keys (B, H, N, D); computed in float32, returned in the dtype of `x`."""
        cos, sin = self.cos_sin
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # each B, H, N, D / 2
        turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
        return turned.flatten(-2).to(x.dtype)


def angles_at(y: Tensor, x: Tensor, head_dim: int) -> Tensor:
    """Angles float32 (rows * columns, D / 2), in raster order, of a grid whose lines lie at any positions.

    Args:
        y, x: float32 (rows,) and (columns,), positions of the rows and of the columns.
        head_dim: D, a multiple of 4.
    """
    steps = torch.arange(0, head_dim // 2, 2, device=x.device, dtype=torch.float32)
    frequencies = THETA ** -(steps / (head_dim // 2))
    along_x = (x[:, None] * frequencies).expand(y.shape[0], -1, -1)  # rows, columns, D / 4
    along_y = (y[:, None] * frequencies)[:, None].expand(-1, x.shape[0], -1)
    return torch.cat((along_x, along_y), dim=-1).flatten(0, 1)


def grid_angles(rows: int, columns: int, head_dim: int, *, class_token: bool, device: torch.device) -> Tensor:
    """Angles float32 (N, D / 2) of a grid in raster order; N counts the patches and the class token, if any."""
    first = int(class_token)
    y = torch.arange(first, rows + first, device=device, dtype=torch.float32)
    x = torch.arange(first, columns + first, device=device, dtype=torch.float32)
    angles = angles_at(y, x, head_dim)
    return torch.cat((angles.new_zeros(1, angles.shape[1]), angles)) if class_token else angles


class RopeTables:
    """Angle tables by grid and device, built on first use; holds no weights."""

    def __init__(self, head_dim: int, *, class_token: bool) -> None:
        self.head_dim = head_dim
        self.class_token = class_token
        self._tables: OrderedDict[tuple[int, int, torch.device], Rope] = OrderedDict()

    def get(self, rows: int, columns: int, device: torch.device) -> Rope:
        """The table of a `rows` x `columns` grid."""
        if torch.compiler.is_exporting():  # a traced table belongs to the trace, and its grid may be symbols
            return Rope(grid_angles(rows, columns, self.head_dim, class_token=self.class_token, device=device))
        key = (rows, columns, device)
        rope = self._tables.get(key)
        if rope is None:
            with torch.autocast(device.type, enabled=False), torch.inference_mode(False):
                angles = grid_angles(rows, columns, self.head_dim, class_token=self.class_token, device=device)
            rope = self._tables[key] = Rope(angles)
            if len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
        return rope
