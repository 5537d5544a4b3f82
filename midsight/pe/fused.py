"""Steps of the GPU path: Triton kernels where there are some, and the same arithmetic in plain torch elsewhere.

The plain form is what the kernels are held against. Kernels are for CUDA devices that compute in bfloat16 (compute
capability 8.0 and later) and need the package `triton`, which torch's CUDA builds bring.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.pe.rope import Rope


@cache
def kernels_for(device: torch.device) -> Any:
    """The module of kernels, or None where this device has none."""
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from midsight.pe import kernels
    except ImportError:
        return None
    return kernels


def rotate(qkv: Tensor, rope: Rope, heads: int) -> None:
    """Turn the queries and keys in `qkv` (B, N, 3W), contiguous, in place."""
    kernels = kernels_for(qkv.device)
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
    kernels = kernels_for(x.device)
    if kernels is not None:
        return kernels.add_norm(x, branch, norm.weight, norm.bias, norm.eps, dtype)
    total = x if branch is None else x + branch
    return total, norm(total).to(dtype)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU, exact, of a linear map (..., in) to (..., out), in the dtype of `x`; the kernel is for bfloat16."""
    kernels = kernels_for(x.device) if x.dtype == torch.bfloat16 else None
    if kernels is None:
        return F.gelu(F.linear(x, weight, bias))
    return kernels.linear_gelu(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
