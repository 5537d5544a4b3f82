"""Triton kernels of the GPU path; `fused.py` chooses between them and plain torch.

Each does in one pass over memory what torch does in several: RoPE on queries and keys in place, the residual sum with
the layer norm behind it, a linear map with bias and exact GELU. All arithmetic is in float32.
Letters: B batch, N tokens, W width, H heads, D head dim; a product is (M, K) x (K, N).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

GROUP = 8  # rows of tiles that are computed side by side, so that weights stay in the L2 cache
ROTATED_ROWS = 32  # heads of tokens that one program turns


@triton.jit(do_not_specialize=["rows", "tokens"])
def _rotate(
    qkv, cos, sin, rows, tokens, HEADS: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr, PAIRS: tl.constexpr
):  # fmt: skip
    """Queries and keys of `rows` = B * N * 2H heads, turned where they stand; adjacent channels are a pair."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token, head = row // HEADS, row % HEADS
    position = token % tokens
    channel, pair = tl.arange(0, 2 * PAIRS), tl.arange(0, PAIRS)
    at = qkv + (token * (HEADS // 2 * 3 * DIM) + head * DIM)[:, None] + channel[None, :]
    inside = (row < rows)[:, None] & (channel < DIM)[None, :]
    x = tl.load(at, mask=inside, other=0.0)
    even, odd = tl.split(tl.reshape(x.to(tl.float32), (ROWS, PAIRS, 2)))
    angle = position[:, None] * (DIM // 2) + pair[None, :]
    known = (row < rows)[:, None] & (pair < DIM // 2)[None, :]
    c = tl.load(cos + angle, mask=known, other=0.0)
    s = tl.load(sin + angle, mask=known, other=0.0)
    turned = tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), (ROWS, 2 * PAIRS))
    tl.store(at, turned.to(x.dtype), mask=inside)


def rotate(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> None:
    """Turn the queries and keys in `qkv` (B, N, 3W), contiguous, in place; cosines and sines are (N, D / 2)."""
    batch, tokens, width = qkv.shape
    dim = width // (3 * heads)
    rows = batch * tokens * 2 * heads
    _rotate[(triton.cdiv(rows, ROTATED_ROWS),)](
        qkv, cos, sin, rows, tokens,
        HEADS=2 * heads, DIM=dim, ROWS=ROTATED_ROWS, PAIRS=triton.next_power_of_2(dim) // 2, num_warps=4,
    )  # fmt: skip


@triton.jit
def _add_norm(
    x, branch, total, normed, weight, bias, eps,
    HAS_BRANCH: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One row: total = x + branch, normed = LayerNorm(total)."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, COLUMNS)
    inside = column < WIDTH
    at = row * WIDTH + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        value += tl.load(branch + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + at, value.to(total.dtype.element_ty), mask=inside)
    mean = tl.sum(value, axis=0) / WIDTH
    centred = tl.where(inside, value - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / WIDTH + eps)
    gain = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + at, (centred * scale * gain + shift).to(normed.dtype.element_ty), mask=inside)


def add_norm(
    x: Tensor, branch: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`x` (..., W) plus `branch`, in the dtype of `x`, and the layer norm of the sum in `dtype`; both contiguous."""
    width = x.shape[-1]
    total = x if branch is None else torch.empty_like(x)
    normed = torch.empty(x.shape, dtype=dtype, device=x.device)
    columns = triton.next_power_of_2(width)
    _add_norm[(x.numel() // width,)](
        x, x if branch is None else branch, total, normed, weight, bias, eps,
        HAS_BRANCH=branch is not None, WIDTH=width, COLUMNS=columns, num_warps=min(max(columns // 256, 1), 8),
    )  # fmt: skip
    return total, normed


@triton.jit
def _gelu(x):
    """Exact GELU: x times the normal distribution's integral, by Abramowitz and Stegun 7.1.26 (error under 1.5e-7)."""
    z = tl.abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * poly * tl.exp(-z * z)  # of the side away from zero, so that small values keep their digits
    return x * tl.where(x < 0, tail, 1.0 - tail)


@triton.jit(do_not_specialize=["M"])
def _linear_gelu(
    x, weight, bias, out, M, N: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    """One tile of GELU(x weightT + bias); programs run down `GROUP_M` rows of tiles before the next column."""
    program = tl.program_id(0)
    rows, columns = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    group = program // (GROUP_M * columns)
    height = min(rows - group * GROUP_M, GROUP_M)
    tile_m = group * GROUP_M + (program % (GROUP_M * columns)) % height
    tile_n = (program % (GROUP_M * columns)) // height
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    at_x = x + (m % M)[:, None] * K + k[None, :]  # rows past the end are read again and not written
    at_w = weight + (n % N)[None, :] * K + k[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        if K % BLOCK_K == 0:
            left, right = tl.load(at_x), tl.load(at_w)
        else:
            left = tl.load(at_x, mask=(k < K - first)[None, :], other=0.0)
            right = tl.load(at_w, mask=(k < K - first)[:, None], other=0.0)
        total = tl.dot(left, right, total)
        at_x += BLOCK_K
        at_w += BLOCK_K
    total += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    inside = (m < M)[:, None] & (n < N)[None, :]
    tl.store(out + m[:, None] * N + n[None, :], _gelu(total).to(out.dtype.element_ty), mask=inside)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of the linear map (M, K) x (N, K)T + (N) to (M, N), contiguous, in the dtype of `x`."""
    (rows, depth), width = x.shape, weight.shape[0]
    out = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    block_m, block_n, block_k, warps, stages = tile(rows, width)
    _linear_gelu[(triton.cdiv(rows, block_m) * triton.cdiv(width, block_n),)](
        x, weight, bias, out, rows, N=width, K=depth,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, GROUP_M=GROUP,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def tile(rows: int, width: int) -> tuple[int, int, int, int, int]:
    """Tile of the product, its warps and pipeline stages: small ones where large ones would leave units idle."""
    for block_m, block_n, warps in ((128, 256, 8), (128, 128, 8), (64, 64, 4)):
        if triton.cdiv(rows, block_m) * triton.cdiv(width, block_n) >= 2 * UNITS:
            return block_m, block_n, 64, warps, 3
    return 32, 64, 64, 4, 4


UNITS = 132  # multiprocessors of an H100; a guess is good enough elsewhere
