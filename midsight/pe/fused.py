"""Steps of the GPU path: Triton kernels where there are some, and the same arithmetic in plain torch elsewhere.

The plain form is what the kernels are held against. Kernels are for CUDA devices that compute in bfloat16 (compute
capability 8.0 and later) and need the package `triton`, which torch's CUDA builds bring.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from midsight.pe.rope import Rope


def kernels_for(x: Tensor) -> Any:
    """The module of kernels for this tensor, or None where there is none, or nothing to compute."""
    return _kernels(x.device) if x.numel() else None


@cache
def _kernels(device: torch.device) -> Any:
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from midsight.pe import kernels
    except ImportError:
        return None
    return kernels


def rotate(qkv: Tensor, rope: Rope, heads: int) -> None:
    """Turn the queries and keys in `qkv` (B, N, 3W), contiguous, in place."""
    kernels = kernels_for(qkv)
    if kernels is not None:
        kernels.rotate(qkv, *rope.cos_sin, heads)
        return
    for part in qkv.unflatten(-1, (3, heads, -1)).transpose(1, 3).unbind(2)[:2]:  # each B, H, N, D
        part.copy_(rope.rotate(part))


def add_norm(x: Tensor, branch: Tensor | None, norm: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The residual sum `x` + `branch` in the dtype of `x`, and its layer norm in `dtype`; all (B, N, W), contiguous."""
    if not isinstance(norm, nn.LayerNorm):
        total = x if branch is None else x + branch
        return total, total.to(dtype)
    kernels = kernels_for(x)
    if kernels is not None:
        return kernels.add_norm(x, branch, norm.weight, norm.bias, norm.eps, dtype)
    total = x if branch is None else x + branch
    return total, norm(total).to(dtype)
