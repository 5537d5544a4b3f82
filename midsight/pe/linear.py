"""Linear maps for inference: weights repacked once for oneDNN, with GELU or a residual added in the same pass.

The operators are private to torch (its own compiler uses them), so they are tried once and `F.linear` stands in where
they are missing.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pages

ROWS_HINT = 512  # rows that the packed layout is chosen for; any number works


@cache
def available() -> bool:
    """Whether torch's fused oneDNN linear maps are there and right on this machine."""
    x, weight = torch.linspace(-1, 1, 64).view(4, 16), torch.linspace(-2, 1, 128).view(8, 16)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 4)
        found = torch.ops.mkldnn._linear_pointwise(x, packed, None, "gelu", [], "none")
        added = torch.ops.mkldnn._linear_pointwise.binary(x, found, packed, None, "add")
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    expected = F.linear(x, weight)
    return torch.allclose(found, F.gelu(expected), atol=1e-5) and torch.allclose(added, expected + found, atol=1e-5)


@cache
def bf16_available() -> bool:
    """Whether oneDNN computes in bfloat16 on this machine."""
    return available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x weightT by oneDNN: (M, K) and (N, K), contiguous, to (M, N). Only where `available`."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


class PackedLinear:
    """One linear map, in the dtype that it computes in."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, scale: Tensor | None = None) -> None:
        """`weight` (out, in) and `bias` (out); `scale` (out), such as a LayerScale behind the map, is folded in."""
        given = weight
        if scale is not None:
            weight = weight * scale[:, None]
            bias = None if bias is None else bias * scale
        weight = weight.detach().to(dtype).contiguous()
        self.dtype = dtype
        self.bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self.packed = weight.device.type == "cpu" and (available() if dtype == torch.float32 else bf16_available())
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_HINT) if self.packed else weight
        if self.packed:
            pages.release([given])

    def __call__(self, x: Tensor) -> Tensor:
        """The map, (..., in) to (..., out), in `dtype`."""
        x = x.to(self.dtype)
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def gelu(self, x: Tensor) -> Tensor:
        """The map and an exact GELU behind it."""
        x = x.to(self.dtype)
        if not self.packed:
            return F.gelu(F.linear(x, self.weight, self.bias))
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """`residual` plus the map, in the residual's dtype; a bfloat16 map leaves a float32 residual in float32."""
        if not self.packed or residual.dtype != self.dtype:
            return residual + self(x)
        return torch.ops.mkldnn._linear_pointwise.binary(x.to(self.dtype), residual, self.weight, self.bias, "add")
