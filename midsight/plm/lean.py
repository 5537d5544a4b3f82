"""A Llama run step by step: the modules of transformers, without what it does around them.

Layers, norms, rotary positions and weights are those of the `LlamaForCausalLM` as it is, quantised or with adapters.
What differs is around them: keys and values lie in memory that grows by blocks, masks are made only where there is
padding or a prompt behind a prompt, plain linear maps go to oneDNN where they lie (no second copy), groups of queries
share their keys without copies, and the last layer answers for the last token alone.
Letters: B batch, L new tokens, T all tokens, H heads, K heads of keys, D head dim, W width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.pe.linear import available, bf16_available

BLOCK = 256  # tokens by which the cache grows
ROPES = ("default", "linear", "llama3")  # whose angles do not hang on the length of the text
Bias = tuple[Tensor | None, bool]  # mask (B or 1, 1, L, T) of what may be seen; whether causal is all there is to it


class KVCache:
    """Keys and values of the tokens so far."""

    def __init__(self) -> None:
        self.length = 0
        self._stored: dict[int, Tensor] = {}  # by layer: 2, B, K, tokens that there is room for, D

    def add(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (B, K, T, D) of a layer, the new ones (B, K, L, D) last; `length` stays."""
        total = self.length + keys.shape[2]
        stored = self._stored.get(layer)
        if stored is None or stored.shape[3] < total:
            room = -(-total // BLOCK) * BLOCK
            larger = keys.new_empty(2, len(keys), keys.shape[1], room, keys.shape[3])
            if stored is not None:
                larger[:, :, :, : self.length] = stored[:, :, :, : self.length]
            self._stored[layer] = stored = larger
        stored[0, :, :, self.length : total] = keys
        stored[1, :, :, self.length : total] = values
        return stored[0, :, :, :total], stored[1, :, :, :total]

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(stored.nbytes for stored in self._stored.values())


def supports(language_model: nn.Module) -> bool:
    """Whether this is a Llama of transformers as `step` knows it."""
    if type(language_model).__name__ != "LlamaForCausalLM":
        return False
    config: Any = language_model.config
    return config.rope_parameters["rope_type"] in ROPES and config.hidden_act == "silu"


def step(language_model: Any, embeds: Tensor, cache: KVCache, mask: Tensor | None = None) -> Tensor:
    """Logits (B, V) behind the last token; keys and values enter the cache.

    Args:
        language_model: one that `supports` knows.
        embeds: (B, L, W), the new tokens.
        mask: (B, T), 0 at padding on the left.
    """
    model = language_model.model
    length = embeds.shape[1]
    if mask is None:
        places = torch.arange(cache.length, cache.length + length, device=embeds.device)[None]  # 1, L
    else:
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -length:]  # B, L
    turn = _turn(model, embeds, places)
    bias = _visible(length, cache.length, mask, embeds.device)
    x, last = embeds, len(model.layers) - 1
    for index, layer in enumerate(model.layers):
        x = _layer(layer, index, x, turn, bias, cache, only_last=index == last)
    cache.length += length
    return linear(language_model.lm_head, model.norm(x[:, -1]))


def branches(language_model: Any, embeds: Tensor, places: Tensor, seen: Tensor, cache: KVCache) -> Tensor:
    """Logits (N, V) behind all tokens of a tree; see `decode.branches`. The cache's length stays.

    Args:
        embeds: (1, N, W).
        places: int64 (N,), of the tokens in the text.
        seen: bool (1, 1, N, T).
    """
    model = language_model.model
    turn, x = _turn(model, embeds, places[None]), embeds
    for index, layer in enumerate(model.layers):
        x = _layer(layer, index, x, turn, (seen, False), cache, only_last=False)
    return linear(language_model.lm_head, model.norm(x[0]))


def _turn(model: Any, embeds: Tensor, places: Tensor) -> tuple[Tensor, ...]:
    """Cosines and sines (B or 1, 1, L, D / 2) of places (B or 1, L)."""
    return tuple(part.chunk(2, -1)[0][:, None] for part in model.rotary_emb(embeds, places))


def linear(module: nn.Module, x: Tensor, activation: str = "none") -> Tensor:
    """A linear map, with "swish" behind it where that is asked for."""
    if _plain(module, x):
        return torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, activation, [], "")
    out: Tensor = module(x)
    return F.silu(out) if activation == "swish" else out


def _plain(module: nn.Module, x: Tensor) -> bool:
    """Whether oneDNN can take the weights where they lie: no adapter, no quantised weight, no gradient."""
    if type(module) is not nn.Linear or x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    if type(module.weight) is not nn.Parameter or module.weight.dtype != x.dtype:
        return False
    return available() if x.dtype == torch.float32 else x.dtype == torch.bfloat16 and bf16_available()


def _layer(
    layer: Any, index: int, x: Tensor, turn: tuple[Tensor, ...], bias: Bias, cache: KVCache, only_last: bool
) -> Tensor:
    """Tokens (B, L, W) through a layer; (B, 1, W) where only the last one is asked for."""
    attn, normed = layer.self_attn, layer.input_layernorm(x)
    keys = _turned(_heads(linear(attn.k_proj, normed), attn.head_dim), turn)
    keys, values = cache.add(index, keys, _heads(linear(attn.v_proj, normed), attn.head_dim))  # B, K, T, D
    mask, causal = bias
    if only_last and x.shape[1] > 1:
        x, normed, turn = x[:, -1:], normed[:, -1:], tuple(part[:, :, -1:] for part in turn)
        mask, causal = None if mask is None else mask[:, :, -1:], False
    queries = _turned(_heads(linear(attn.q_proj, normed), attn.head_dim), turn)  # B, H, L, D
    x = x + linear(attn.o_proj, _attend(queries, keys, values, mask, causal, attn.scaling))
    normed = layer.post_attention_layernorm(x)
    gated = linear(layer.mlp.gate_proj, normed, "swish").mul_(linear(layer.mlp.up_proj, normed))
    return x + linear(layer.mlp.down_proj, gated)


def _heads(x: Tensor, dim: int) -> Tensor:
    return x.unflatten(-1, (-1, dim)).transpose(1, 2)  # B, H, L, D


def _turned(x: Tensor, turn: tuple[Tensor, ...]) -> Tensor:
    """Queries or keys (B, H, L, D) turned by their places; halves of a head go together."""
    (cos, sin), (a, b) = turn, x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """Queries (B, H, L, D) over keys and values (B, K, T, D) to (B, L, H x D)."""
    groups = q.shape[1] // k.shape[1]
    if q.shape[2] == 1:  # a group of queries is as good as so many tokens
        q = q.unflatten(1, (-1, groups)).flatten(2, 3)  # B, K, H / K, D
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.flatten(1)[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=groups > 1)
    return out.transpose(1, 2).flatten(2)


def _visible(length: int, cached: int, mask: Tensor | None, device: torch.device) -> Bias:
    """What each new token may see. One of padding sees itself, so that nothing is divided by zero."""
    if mask is None and (length == 1 or cached == 0):
        return None, length > 1
    rows = torch.arange(cached, cached + length, device=device)[:, None]  # L, 1
    columns = torch.arange(cached + length, device=device)
    seen = columns <= rows  # L, T
    if mask is not None:
        seen = seen & mask.bool()[:, None, None, :] | (columns == rows)  # B, 1, L, T
    return (seen if seen.ndim == 4 else seen[None, None]), False
