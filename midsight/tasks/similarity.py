"""Cosine similarity between embeddings, and the nearest ones, in bounded memory."""

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of every row of `a` with every row of `b`.

    Args:
        a: float (N, D), of any length.
        b: float (M, D).

    Returns:
        float32 (N, M), in [-1, 1]; a zero row has similarity 0 to everything.

    Raises:
        ShapeError: not two matrices of the same width.
    """
    _check(a, b)
    return (F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T).clamp(-1, 1)


def nearest(queries: Tensor, gallery: Tensor, k: int = 10, rows: int = 1024) -> tuple[Tensor, Tensor]:
    """The k rows of `gallery` that are most similar to each query, best first.

    Args:
        queries: float (N, D), of any length.
        gallery: float (M, D).
        k: how many; M where the gallery is smaller.
        rows: queries compared at once; memory is rows * M floats.

    Returns:
        Similarities float32 (N, k) and indices int64 (N, k).

    Raises:
        ShapeError: not two matrices of the same width.
        InputError: k or rows below 1.
    """
    _check(queries, gallery)
    if k < 1 or rows < 1:
        raise InputError(f"k and rows must be at least 1, got k={k} and rows={rows}")
    k = min(k, len(gallery))
    unit = F.normalize(gallery.float(), dim=-1).T
    found = [(F.normalize(part.float(), dim=-1) @ unit).topk(k, dim=-1) for part in torch.split(queries, rows)]
    return torch.cat([f.values for f in found]).clamp(-1, 1), torch.cat([f.indices for f in found])


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(f"expected (N, D) and (M, D) with the same D, got {tuple(a.shape)} and {tuple(b.shape)}")
