"""Small PerceptionLMs of transformers, every weight drawn anew, and the published layout written from one."""

import base64
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

IMAGE, VIDEO, BEGIN, END, VOCABULARY = 120, 121, 1, 127, 128
SIDE, PATCH, WIDTH, LAYERS, DIM, HEADS, KV_HEADS, HIDDEN = 56, 14, 32, 2, 48, 4, 2, 80
SCALED = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


def perception_lm(
    class_token: bool = True, tied: bool = True, pooling: int = 2, scaled: bool = True, seed: int = 0
) -> Any:
    """transformers' model: a tower as PLM-1B's (class token) or PLM-8B's, shrunk."""
    from transformers import PerceptionLMConfig, PerceptionLMForConditionalGeneration

    grid = SIDE // PATCH
    rope = dict(SCALED if scaled else dict(rope_type="default"), rope_theta=10_000.0)
    tower = dict(
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=HEADS,
        mlp_ratio=3.0,
        img_size=[SIDE, SIDE],
        global_pool="",
        use_post_transformer_norm=False,
        init_values=0.1,
        ref_feat_shape=[grid, grid],
    )
    architecture = "vit_pe_core_large_patch14_336" if class_token else "vit_pe_core_gigantic_patch14_448"
    config = PerceptionLMConfig(
        vision_config=dict(model_type="timm_wrapper", architecture=architecture, model_args=tower),
        text_config=dict(
            model_type="llama",
            vocab_size=VOCABULARY,
            hidden_size=DIM,
            intermediate_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters=rope,
            tie_word_embeddings=tied,
            bos_token_id=BEGIN,
            eos_token_id=[END],
        ),
        vision_use_cls_token=class_token,
        projector_pooling_ratio=pooling,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        tie_word_embeddings=tied,
    )
    return redrawn(PerceptionLMForConditionalGeneration(config).float().eval(), seed)


def redrawn(model: Any, seed: int) -> Any:
    """Every weight drawn so that it matters to the logits; returns the model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.3 * noise)
            elif "gamma" in name:
                weight.copy_(0.6 + 0.2 * noise)
            elif weight.ndim == 2 and "embed" not in name:
                weight.copy_(1.3 * noise / weight.shape[1] ** 0.5)
            else:
                weight.copy_(0.4 * noise)
    return model


def prompt(tokens_per_tile: int, images: int = 0, tiles: int = 1, frames: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """Ids (1, L) with their places for visual tokens, and pixels for them."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, 110, (30,), generator=generator).tolist()
    ids = [BEGIN, *words[:5]]
    given: dict[str, Tensor] = {}
    if images:
        for _ in range(images):
            ids += [*[IMAGE] * (tiles * tokens_per_tile), *words[5:7]]
        given["pixel_values"] = torch.randn(images, tiles, 3, SIDE, SIDE, generator=generator)
    if frames:
        ids += [*[VIDEO] * (frames * tokens_per_tile), words[8]]
        given["pixel_values_videos"] = torch.randn(1, frames, 3, SIDE, SIDE, generator=generator)
    return {"input_ids": torch.tensor([[*ids, *words[10:18]]]), **given}


def write_tokenizer(path: Path) -> int:
    """A vocabulary of the bytes and a few merges in tiktoken's format; returns its size without special tokens."""
    tokens = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the", b"in", b"ing", b"\n\n", b"er"]
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for rank, token in enumerate(tokens)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return len(tokens)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
