"""Tiny PerceptionLMs with every weight drawn anew, and byte-level tokenizers for them, made on the spot.

plm(folder)                    in memory; the tokenizer's file lies in the folder
saved(folder)                  the same in a folder of transformers' layout
published(folder)              the same in a folder of the published layout, with a tokenizer.model
marks="llama3" | "chatml" | "tiktoken"
"""

import base64
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from midsight.configs import PEConfig
from midsight.plm import PLM, PLMConfig, native
from midsight.plm.chat import SYSTEM
from midsight.plm.folders import take_apart
from midsight.plm.model import build_language_model
from midsight.plm.tokenizer import FIRST_SPECIAL, PIECES, TextCodec, open_tokenizer
from midsight.plm.tokenizer_json import byte_chars
from tests import peers

Marks = Literal["llama3", "chatml", "tiktoken"]
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>")
STOPS = {"llama3": FIRST_SPECIAL[1::8], "tiktoken": FIRST_SPECIAL[1::8], "chatml": CHATML[::2]}
TEXT = f"""{SYSTEM} system user assistant What is the total of this invoice? Who signed it, and when?
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 株式会社の請求書です。 Сколько это стоит? 12 345,67 €
"""
VISION = PEConfig(
    patch_size=14, width=48, layers=3, heads=4, mlp_ratio=4.0, output_dim=None, ls_init_value=0.1, image_size=56,
    use_cls_token=True, pool_type="none", use_ln_post=False,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip
LANGUAGE: dict[str, Any] = dict(
    model_type="llama", hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, max_position_embeddings=512, rope_parameters=LLAMA3,
)  # fmt: skip


@cache
def _trained() -> str:
    """A byte-level tokenizer without special tokens, as JSON: the bytes and some merges."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return str(tokenizer.to_str())


def write_tokenizer(folder: Path, marks: Marks = "llama3") -> TextCodec:
    """Writes `tokenizer.json`, or `tokenizer.model` for "tiktoken", and opens it as a PLM's folder does."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_str(_trained())
    if marks == "tiktoken":
        (folder / "tokenizer.model").write_bytes(_ranks(tokenizer))
    else:
        names = FIRST_SPECIAL if marks == "llama3" else CHATML
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        tokenizer.save(str(folder / "tokenizer.json"))
    opened = open_tokenizer(folder)
    assert opened is not None
    return opened


def _ranks(tokenizer: Tokenizer) -> bytes:
    """The vocabulary in tiktoken's text format; ids are ranks, as merges come in the order of their ids."""
    byte_of = {char: index for index, char in enumerate(byte_chars())}
    lines = []
    for token, rank in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        lines.append(base64.b64encode(bytes(byte_of[char] for char in token)) + b" %d" % rank)
    return b"\n".join(lines) + b"\n"


@dataclass(frozen=True)
class Shape:
    """What may differ between tiny models."""

    cls_token: bool = True
    tied: bool = False  # tied ones tend to repeat the last token without end
    pooling: int = 2
    context_length: int = 512


def config(tokenizer: TextCodec, marks: Marks = "llama3", shape: Shape = Shape()) -> PLMConfig:  # noqa: B008
    """The configuration of a tiny model with that tokenizer."""
    special = tokenizer.special_tokens
    text = dict(LANGUAGE, vocab_size=max(special.values()) + 1, max_position_embeddings=shape.context_length)
    return PLMConfig(
        vision=replace(VISION, use_cls_token=shape.cls_token),
        text=dict(text, tie_word_embeddings=shape.tied),
        projector_pooling_ratio=shape.pooling,
        image_token_id=special["<|image|>"],
        stop_token_ids=tuple(special[name] for name in STOPS[marks]),
        tie_word_embeddings=shape.tied,
        max_tiles=4,
        max_frames=4,
    )


def plm(folder: Path, marks: Marks = "llama3", shape: Shape = Shape(), seed: int = 0) -> PLM:  # noqa: B008
    """A tiny model in memory, ready for inference; its tokenizer's file is written to `folder`."""
    tokenizer = write_tokenizer(folder, marks)
    settings = config(tokenizer, marks, shape)
    model = peers.randomize(PLM(settings, build_language_model(settings.text), tokenizer), seed)
    with torch.no_grad():  # choices that do not hang on rounding
        model.language_model.get_output_embeddings().weight.mul_(3)
    prepared: PLM = model.prepare()
    return prepared


def saved(folder: Path, marks: Marks = "llama3", shape: Shape = Shape(), seed: int = 0) -> PLM:  # noqa: B008
    """The same model, also saved to `folder` in transformers' layout; `folder` must not be there yet."""
    model = plm(folder.with_name(folder.name + "_tokenizer"), marks, shape, seed)
    model.save_pretrained(folder)
    return model


def published(folder: Path, shape: Shape = Shape(), seed: int = 0) -> PLM:  # noqa: B008
    """The same model, also written to `folder` in the published layout."""
    model = plm(folder, "tiktoken", shape, seed)
    (folder / "params.json").write_text(json.dumps({"model": _params(model.config)}))
    parts = take_apart(model)
    weights: dict[str, Tensor] = {}
    weights |= {f"vision_model.{key}": value for key, value in parts.vision_model.items()}
    weights |= {f"vision_projector.{key}": value for key, value in parts.vision_projector.items()}
    for key, value in parts.language_model.items():
        for theirs, ours in native.RENAMES:
            key = key.replace(ours, theirs)
        if key.endswith((".wq.weight", ".wk.weight")):
            heads = LANGUAGE["num_attention_heads" if "wq" in key else "num_key_value_heads"]
            value = value.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)  # neighbours turn together
        weights[key] = value.clone()
    torch.save(weights, folder / "consolidated.pth")
    return model


def _params(settings: PLMConfig) -> dict[str, Any]:
    rope = settings.text["rope_parameters"]
    tower = {key: getattr(settings.vision, key) for key in sorted(native.TOWER_KEYS)}
    return dict(
        dim=64, n_layers=3, n_heads=4, n_kv_heads=2, multiple_of=16, norm_eps=1e-5, rope_theta=rope["rope_theta"],
        rope_scale_factor=rope["factor"], high_freq_factor=rope["high_freq_factor"],
        old_context_len=rope["original_max_position_embeddings"], vocab_size=settings.text["vocab_size"],
        max_seqlen=settings.context_length, weight_tying=settings.tie_word_embeddings,
        pooling_ratio=settings.projector_pooling_ratio, vision_model=tower,
    )  # fmt: skip
