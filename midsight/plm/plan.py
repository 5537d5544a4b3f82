"""How much memory a PLM takes, from its configuration alone: before anything is downloaded or loaded.

Weights and cache are exact; what a pass holds at its peak is an estimate from the tensors that live at the same time.
Sources of the published sizes: PLM's configurations (`apps/plm/configs`), PE paper, table 17.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from midsight.configs import MODELS, PEConfig
from midsight.errors import InputError
from midsight.plm.config import PLMConfig
from midsight.plm.lean import BLOCK
from midsight.plm.model import PLM, build_language_model, tiles_at_once
from midsight.plm.native import feed_forward_size
from midsight.plm.quantized import GROUP, Quantization

TEXT_TOKENS = 128  # of a prompt: system message and question
VOCABULARY = 128_256
PUBLISHED = {  # PE tower, its layers; the language model's width, layers, heads, KV heads, multiplier, multiple, tied
    "1B": ("PE-Core-L14-336", 23, 2048, 16, 32, 8, 1.5, 256, True),
    "3B": ("PE-Core-L14-336", 23, 3072, 28, 24, 8, 1.0, 256, True),
    "8B": ("PE-Core-G14-448", 47, 4096, 32, 32, 8, 1.3, 1024, False),
}


@dataclass(frozen=True)
class Load:
    """What a model is asked."""

    tiles: int = 1  # with the thumbnail, or frames, of each prompt
    batch: int = 1  # prompts decoded together
    new_tokens: int = 256
    text_tokens: int = TEXT_TOKENS
    threads: int = 1  # of a CPU; they decide how many tiles are encoded at once

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < (0 if name == "tiles" else 1):
                raise InputError(f"{name} must be at least {0 if name == 'tiles' else 1}, got {value}")


@dataclass(frozen=True)
class Plan:
    """Bytes, part by part."""

    prompt_tokens: int
    fits: bool  # prompt and answer into the context
    tower: int  # weights, with the projector
    packed_tower: int  # the copy of its weights that inference computes with
    language_model: int  # weights
    tower_pass: int  # at the peak, without weights
    prompt_pass: int  # at the peak, without weights and cache
    cache: int  # keys and values at the end of the answer

    @property
    def total(self) -> int:
        """Weights, cache, and the larger of the two passes."""
        weights = self.tower + self.packed_tower + self.language_model
        return weights + self.cache + max(self.tower_pass, self.prompt_pass)


def published(name: str) -> PLMConfig:
    """The configuration of a published model, "1B", "3B" or "8B".

    Raises:
        InputError: another name.
    """
    if name not in PUBLISHED:
        raise InputError(f"there is no published PLM {name!r}; there are {', '.join(PUBLISHED)}")
    tower, depth, width, layers, heads, kv_heads, multiplier, multiple, tied = PUBLISHED[name]
    vision = replace(
        MODELS[tower].vision, layers=depth, image_size=448, output_dim=None, pool_type="none", use_ln_post=False,
        ls_init_value=0.1,
    )  # fmt: skip
    text: dict[str, Any] = dict(
        model_type="llama", hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=width // heads, vocab_size=VOCABULARY, tie_word_embeddings=tied,
        intermediate_size=feed_forward_size(width, multiplier, multiple), max_position_embeddings=11520,
    )  # fmt: skip
    return PLMConfig(vision, text, tie_word_embeddings=tied)


def plan(
    config: PLMConfig,
    load: Load = Load(),
    dtype: torch.dtype = torch.float32,
    quantize: Quantization | None = None,  # noqa: B008
) -> Plan:
    """The memory of that model under that load, on a CPU.

    Raises:
        MissingDependencyError: transformers is not installed.
    """
    size = 2 if quantize is not None else dtype.itemsize
    with torch.device("meta"):
        model = PLM(config, build_language_model({**config.text, "tie_word_embeddings": config.tie_word_embeddings}))
    tokens = load.tiles * (config.tokens_per_tile if config.vision is not None else 0) + load.text_tokens
    total = tokens + load.new_tokens
    tower = packed = tower_pass = 0
    if config.vision is not None:
        tower = (_count(model.vision_model) + _count(model.vision_projector)) * size
        packed = _packed(model.vision_model) * size
        tower_pass = _tower_pass(config.vision, load, size)
        tower_pass += load.batch * load.tiles * config.tokens_per_tile * _width(config.text) * size
    return Plan(
        prompt_tokens=tokens,
        fits=total <= config.context_length,
        tower=tower,
        packed_tower=packed,
        language_model=_language_model(model.language_model, size, quantize),
        tower_pass=tower_pass,
        prompt_pass=_prompt_pass(config.text, load.batch * tokens, load.batch, size),
        cache=_cache(config.text, total, load.batch, size),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())  # a tied table counts once


def _packed(tower: nn.Module) -> int:
    """Weights of the linear maps in a tower, which are laid out a second time."""
    return sum(p.numel() for name, p in tower.named_parameters() if p.ndim > 1 and "embedding" not in name)


def _language_model(model: Any, size: int, quantize: Quantization | None) -> int:
    if quantize is None:
        return _count(model) * size
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    )
    bits = 8 if quantize == "int8" else 4 + 2 * 16 / GROUP
    return (_count(model) - linear) * size + math.ceil(linear * bits / 8)


def _tower_pass(vision: PEConfig, load: Load, size: int) -> int:
    """Some tiles in the widest place of a block, and the pixels of all of them."""
    at_once = min(load.tiles, tiles_at_once(vision.grid, load.threads))
    rows = at_once * (vision.grid**2 + vision.use_cls_token)
    hidden = int(vision.width * vision.mlp_ratio)
    scores = (vision.grid**2 + 1) ** 2 * size * (1 if size == 4 else vision.heads)
    block = rows * (2 * 4 * vision.width + size * (hidden + vision.width))  # the residual is in float32
    attention = rows * vision.width * (36 if size == 4 else 30) + 2 * scores  # in bfloat16, RoPE turns float32 copies
    pixels = load.batch * load.tiles * 3 * vision.image_size**2 * 4
    return max(block, attention) + pixels


def _prompt_pass(text: Mapping[str, Any], rows: int, batch: int, size: int) -> int:
    """The gated layer of the language model: the residual twice, its norm, two wide tensors; and the logits."""
    wide = 2 * int(text["intermediate_size"]) + 3 * _width(text)
    return rows * wide * size + batch * int(text["vocab_size"]) * (size + 4)


def _cache(text: Mapping[str, Any], tokens: int, batch: int, size: int) -> int:
    heads = int(text["num_attention_heads"])
    dim = int(text.get("head_dim") or _width(text) // heads)
    room = -(-tokens // BLOCK) * BLOCK
    return (
        int(text["num_hidden_layers"]) * 2 * batch * int(text.get("num_key_value_heads") or heads) * room * dim * size
    )


def _width(text: Mapping[str, Any]) -> int:
    return int(text["hidden_size"])
