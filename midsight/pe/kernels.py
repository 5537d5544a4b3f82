"""Triton kernels of the GPU path; `fused.py` chooses between them and plain torch.

Each does in one pass over memory what torch does in several: RoPE on queries and keys in place, the residual sum with
the layer norm behind it. All arithmetic is in float32.
Letters: B batch, N tokens, W width, H heads, D head dim.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

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
