"""Softmax attention for inference. The one place where a compiled kernel would go.

On a CPU, torch's fused attention is slower than oneDNN's matrix products with a softmax between, so scores are formed
outright, a head or a few images at a time: the memory stays a few megabytes and the result is the same to rounding.
Elsewhere torch's own kernel is used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import linear

MAX_SCORES = 1 << 20  # score entries formed at once, so that they stay near the caches


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kT) v with queries already scaled.

    Args:
        q, k, v: (B, H, N, D), float32 or bfloat16.

    Returns:
        (B, N, H * D), contiguous.
    """
    if q.device.type != "cpu":
        return fused_attention(q, k, v)
    if q.dtype == torch.bfloat16:
        return _by_batches(q, k, v)
    if linear.available():
        return _by_heads(q, k, v)
    return fused_attention(q, k, v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, scale: float | None = 1.0) -> Tensor:
    """As `attend`, by torch's own kernel; `causal` keeps later tokens out, no `scale` is one over the root of D."""
    if q.shape[0] == 0:  # on CUDA some of torch's kernels return None then
        return q.transpose(1, 2).flatten(2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale).transpose(1, 2).flatten(2)


def _by_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Float32: keys and values of one head are the weights of two oneDNN linear maps."""
    batch, heads, tokens, dim = q.shape
    out = q.new_empty(batch, tokens, heads, dim)
    keys, values = k.contiguous(), v.transpose(2, 3).contiguous()  # B, H, N, D and B, H, D, N
    queries = q.contiguous()
    for b in range(batch):
        for h in range(heads):
            weights = linear.product(queries[b, h], keys[b, h]).softmax(dim=-1)  # N, N
            out[b, :, h] = linear.product(weights, values[b, h])
    return out.flatten(2)


def _by_batches(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Bfloat16: batched products over the heads of as many images as `MAX_SCORES` allows."""
    batch, heads, tokens, dim = q.shape
    out = q.new_empty(batch, tokens, heads, dim)
    step = max(1, MAX_SCORES // (heads * tokens * tokens))
    for first in range(0, batch, step):
        part = slice(first, first + step)
        weights = (q[part] @ k[part].transpose(2, 3)).softmax(dim=-1)  # b, H, N, N
        out[part] = (weights @ v[part]).transpose(1, 2)
    return out.flatten(2)
