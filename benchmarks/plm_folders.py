"""PerceptionLMs with random weights on disk, in bfloat16: one that is tiny, one of the published 1B's sizes."""

from pathlib import Path
from typing import Any

import torch

from midsight.configs import PEConfig
from midsight.plm import PLM, PLMConfig
from midsight.plm.model import build_language_model

ROPE = dict(
    rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)  # fmt: skip
LLAMA: dict[str, Any] = dict(
    model_type="llama", head_dim=64, rms_norm_eps=1e-5, max_position_embeddings=11520, rope_parameters=ROPE,
    tie_word_embeddings=True,
)  # fmt: skip
TOWER: dict[str, Any] = dict(
    patch_size=14, mlp_ratio=4.0, output_dim=None, ls_init_value=0.1, image_size=448, use_cls_token=True,
    pool_type="none", use_ln_post=False,
)  # fmt: skip
SIZES: dict[str, tuple[dict[str, int], dict[str, int]]] = {  # tower, language model
    "tiny": (
        dict(width=192, layers=12, heads=3),
        dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
             num_key_value_heads=3, vocab_size=49152),
    ),
    "1B": (
        dict(width=1024, layers=23, heads=16),
        dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
             num_key_value_heads=8, vocab_size=128256),
    ),
}  # fmt: skip


def write(folder: Path, size: str) -> Path:
    """Draws the weights, each of them, and saves a folder in transformers' layout."""
    tower, language = SIZES[size]
    last = language["vocab_size"] - 1
    config = PLMConfig(
        PEConfig(**TOWER, **tower), {**LLAMA, **language}, image_token_id=last, video_token_id=last - 1,
        stop_token_ids=(last - 2,),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.device("meta"):
        model = PLM(config, build_language_model(config.text))
    model.bfloat16().to_empty(device="cpu")
    model.language_model.tie_weights()  # type: ignore[operator]
    with torch.no_grad():
        for name, value in model.named_parameters():
            _draw(name, value, generator)
    model.save_pretrained(folder)
    return folder


def _draw(name: str, value: torch.Tensor, generator: torch.Generator) -> None:
    if "norm" in name or "ln_" in name and name.endswith("weight"):
        value.normal_(1, 0.1, generator=generator)
    elif name.endswith("gamma"):
        value.normal_(0.1, 0.02, generator=generator)
    elif "embed_tokens" in name or value.ndim == 1:
        value.normal_(0, 0.1, generator=generator)
    else:
        value.normal_(0, (value.numel() / value.shape[0]) ** -0.5, generator=generator)
