"""The Triton kernels beside plain torch, as JSON: case -> (largest error, what is allowed).

Run with TRITON_INTERPRET=1, which must be set before Triton is imported: kernels then run on a CPU. On a CUDA device
the same cases run compiled, by way of `cases`.
"""

import json
import os
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import kernels
from midsight.pe.rope import RopeTables

EPSILON = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # of the largest value


def cases(device: torch.device, half: torch.dtype) -> Iterator[tuple[str, float, float]]:
    """Name, relative error and bound of every case; odd sizes leave blocks part empty."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    for dtype in (torch.float32, half):
        for heads, dim in ((3, 64), (2, 96), (5, 16)):
            for first in (True, False):
                yield f"rotate {dtype} {heads} {dim} {first}", rotated(noise, dtype, heads, dim, first), EPSILON[dtype]
        for width, rows in ((192, 13), (1536, 3)):
            yield f"norm {dtype} {width}", normed(noise, dtype, width, rows), EPSILON[dtype]
        yield f"norm without branch {dtype}", normed(noise, dtype, 48, 7, branch=False), EPSILON[dtype]


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value; NaN counts as all wrong."""
    value = ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
    return value if value == value else float("inf")


def rotated(noise, dtype: torch.dtype, heads: int, dim: int, class_token: bool) -> float:
    rows, columns = 3, 4
    qkv = noise(2, rows * columns + class_token, 3 * heads * dim, dtype=dtype)
    rope = RopeTables(dim, class_token=class_token).get(rows, columns, qkv.device)
    q, k, v = qkv.double().unflatten(-1, (3, heads, -1)).unbind(2)  # B, N, H, D
    cos, sin = (table.double()[:, None] for table in rope.cos_sin)

    def turned(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)

    expected = torch.stack((turned(q), turned(k), v), dim=2).flatten(2)
    kernels.rotate(qkv, *rope.cos_sin, heads)
    return error(qkv, expected)


def normed(noise, dtype: torch.dtype, width: int, rows: int, branch: bool = True) -> float:
    x, weight, bias = 3 + noise(2, rows, width), noise(width), noise(width)
    added = noise(2, rows, width, dtype=dtype) if branch else None
    total, found = kernels.add_norm(x, added, weight, bias, 1e-5, dtype)
    expected = x.double() + (0 if added is None else added.double())
    assert total.dtype == torch.float32
    assert found.dtype == dtype
    normal = F.layer_norm(expected, (width,), weight.double(), bias.double(), 1e-5)
    return max(error(total, expected), error(found, normal))


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET") == "1"
    print(json.dumps({name: found for name, *found in cases(torch.device("cpu"), torch.float16)}))
