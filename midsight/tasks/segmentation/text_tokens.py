"""Each token of a PE-Core in the space of the texts, without training.

The pooled embedding is trained to match texts; the tokens before it are not, so the final norm and the projection alone
say nothing of them. Here each token takes the whole way of the pooling instead: value, output map, MLP, projection.
What the probe's attention would mix is left apart, or mixed with weights of one's own.

Sources: MaskCLIP (arXiv 2112.01071) for the values of the last attention; SCLIP (arXiv 2312.01597) for attention by
self-likeness; ProxyCLIP (arXiv 2408.04883) for weights by another encoder's tokens. Letters as in `midsight.pe.blocks`.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ConfigError, ShapeError
from midsight.pe import VisionTransformer
from midsight.pe.blocks import ResidualAttentionBlock, SelfAttention
from midsight.pe.rope import Rope

Attention = Literal["own", "values", "self"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)


def last_tokens(tower: VisionTransformer, images: Tensor, attention: Attention = "own") -> Tensor:
    """Patch tokens after the last block, whose attention may be another than its own.

    Args:
        images: float (B, 3, H, W), normalised.
        attention: "own"; "values", where each token attends to itself alone; "self", where tokens attend to those with
            like queries and like keys. The block's residuals and MLP stay.

    Returns:
        (B, N, W) in raster order, without the class token.

    Raises:
        ConfigError: no such attention.
    """
    if attention not in ATTENTIONS:
        raise ConfigError(f"attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}")
    if attention == "own":
        return tower.forward_features(images, strip_cls_token=True)
    x = tower.forward_features(images, layer_idx=-2) if tower.layers > 1 else tower._embed(images, None)
    rows, columns = images.shape[-2] // tower.patch_size, images.shape[-1] // tower.patch_size
    rope = tower._rope_tables.get(rows, columns, x.device) if tower.config.use_rope2d else None
    block = tower.transformer.resblocks[-1]
    assert isinstance(block, ResidualAttentionBlock)
    x = x + block.ls_1(_attended(block.attn, block.ln_1(x), rope, attention))
    x = x + block.ls_2(block.mlp(block.ln_2(x)))  # B, N, W
    return x[:, 1:] if tower.use_cls_token else x


def pool_each(tower: VisionTransformer, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
    """What the tower's pooling and projection make of each token.

    Args:
        tokens: (B, N, W) of the last block, without its final norm.
        weights: (B, N, N), rows that sum to 1: how much of each token's value goes into a place; None takes each
            token's value alone. Rows of the probe's own attention would give the published embedding at every place.

    Returns:
        (B, N, D), not normalised.

    Raises:
        ConfigError: a tower without attention pooling or projection.
        ShapeError: weights that do not fit the tokens.
    """
    if tower.config.pool_type != "attn" or tower.output_dim is None:
        raise ConfigError("the tower has no attention pooling that leads into the space of texts; take a PE-Core")
    batch, count, width = tokens.shape
    if weights is not None and weights.shape != (batch, count, count):
        raise ShapeError(f"weights are {tuple(weights.shape)}; expected {(batch, count, count)} for these tokens")
    pool = tower.attn_pool
    values = _values(pool.attn, tower.ln_post(tokens), width)
    x = pool.attn.out_proj(values if weights is None else weights @ values)  # B, N, W
    x = x + pool.mlp(pool.layernorm(x))
    return x @ tower.proj.to(x.dtype)


def likeness(tokens: Tensor, temperature: float) -> Tensor:
    """Weights (B, N, N) for `pool_each`: softmax of `temperature` times the cosines of tokens (B, N, C).

    The mean token of each picture is taken off first: what all tokens share tells nothing apart.
    """
    centred = F.normalize(tokens - tokens.mean(dim=1, keepdim=True), dim=-1)
    return (temperature * (centred @ centred.transpose(1, 2))).softmax(dim=-1)


def _attended(attn: SelfAttention, x: Tensor, rope: Rope | None, attention: Attention) -> Tensor:
    """(B, N, W) to (B, N, W): attention to itself alone, or by the likeness of queries and of keys, half of each."""
    width = x.shape[-1]
    if attention == "values":
        return attn.out_proj(_values(attn, x, width))
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # B, N, 3W
    q, k, v = qkv.unflatten(-1, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)  # each B, H, N, D
    if rope is not None:
        q, k = rope.rotate(q), rope.rotate(k)
    mixed = sum(F.scaled_dot_product_attention(y, y, v) for y in (q, k)) / 2  # B, H, N, D
    return attn.out_proj(torch.as_tensor(mixed).transpose(1, 2).flatten(2))


def _values(attn: SelfAttention, x: Tensor, width: int) -> Tensor:
    return F.linear(x, attn.in_proj_weight[2 * width :], attn.in_proj_bias[2 * width :])
