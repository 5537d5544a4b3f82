"""The published layout: `params.json`, `consolidated*.pth`, `tokenizer.model`. Read only.

Source: published `apps/plm` (transformer, tokenizer, consolidate). The rotary positions of its language model turn
neighbouring rows together, transformers' the rows half a head apart: `wq` and `wk` are permuted for that.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from midsight.checkpoints.perception_lm import NATIVE
from midsight.checkpoints.reader import named, read_json, read_tensors
from midsight.checkpoints.renames import StateDict, Table, collect, rename, under
from midsight.errors import CheckpointError
from midsight.plm.config import PLMConfig
from midsight.plm.parts import Parts, plm_config, tower_config
from midsight.plm.tokenizer import Tokenizer

PARAMS = "params.json"
PROJECTOR = "vision_projector."
TIED = "output.tied_module.weight"
OLD_CONTEXT_LENGTH = 8192  # Llama 3's, where params.json names none
LOW_FREQ_FACTOR = 1.0
RENAMES: Table = (  # published, transformers
    ("tok_embeddings.", "model.embed_tokens."),
    ("norm.", "model.norm."),
    ("output.", "lm_head."),
    ("layers.", "model.layers."),
    (".attention.wq.", ".self_attn.q_proj."),
    (".attention.wk.", ".self_attn.k_proj."),
    (".attention.wv.", ".self_attn.v_proj."),
    (".attention.wo.", ".self_attn.o_proj."),
    (".feed_forward.w1.", ".mlp.gate_proj."),
    (".feed_forward.w2.", ".mlp.down_proj."),
    (".feed_forward.w3.", ".mlp.up_proj."),
    (".attention_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
)
TOWER_KEYS = {"image_size", "patch_size", "width", "layers", "heads", "mlp_ratio", "use_cls_token", "use_abs_posemb",
              "use_rope2d", "use_ln_pre", "use_ln_post", "pool_type", "ls_init_value", "drop_path", "output_dim",
              "attn_pooler_heads"}  # fmt: skip


def read(folder: Path) -> Parts:
    """Configuration and weights of a folder in the published layout.

    Raises:
        CheckpointError: a file is missing, cut or foreign.
    """
    config = config_of(folder)
    tensors = _weights(folder)
    tower = under(NATIVE, tensors)
    language = {k: v for k, v in tensors.items() if not k.startswith((NATIVE, PROJECTOR)) and k != TIED}
    heads = int(config.text["num_attention_heads"]), int(config.text["num_key_value_heads"])
    return Parts(config, tower, under(PROJECTOR, tensors), to_transformers(language, *heads))


def config_of(folder: Path) -> PLMConfig:
    """The configuration alone.

    Raises:
        CheckpointError: params.json or the tokenizer is missing or foreign, or they belong to different models.
    """
    params = read_json(folder / PARAMS)
    model = params.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vision_model"), dict):
        raise CheckpointError(f"{PARAMS}: expected 'model' with the sizes and 'vision_model' inside it")
    tokenizer = Tokenizer.from_file(_tokenizer(folder, params))
    text = _text_config(model)
    if text["vocab_size"] != tokenizer.n_words:
        raise CheckpointError(
            f"{PARAMS} tells of {text['vocab_size']} tokens, the tokenizer has {tokenizer.n_words}: "
            "they belong to different models"
        )
    data = params.get("data") or {}
    return plm_config(
        dict(
            vision=tower_config(_tower_values(model["vision_model"])),
            text=text,
            projector_pooling_ratio=int(model.get("pooling_ratio", 1)),
            image_token_id=tokenizer.image_token_id,
            stop_token_ids=tuple(tokenizer.stop_tokens),
            tie_word_embeddings=text["tie_word_embeddings"],
            max_tiles=1 if data.get("vision_input_type") == "vanilla" else int(data.get("max_num_tiles", 36)),
            max_frames=int(data.get("max_video_frames", 32)),
        )
    )


def to_transformers(tensors: Mapping[str, Tensor], heads: int, kv_heads: int) -> StateDict:
    """The language model's weights under transformers' names, rows in transformers' order."""

    def value(key: str, tensor: Tensor) -> Tensor:
        if key.endswith(".attention.wq.weight"):
            return half_apart(tensor, heads)
        return half_apart(tensor, kv_heads) if key.endswith(".attention.wk.weight") else tensor

    return collect((rename(key, RENAMES), value(key, tensor)) for key, tensor in tensors.items())


def half_apart(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads x D, W) of which neighbours turn together, so that row i and i + D / 2 of a head do."""
    if weight.ndim != 2 or weight.shape[0] % (2 * heads):
        raise CheckpointError(f"attention weights of {tuple(weight.shape)} do not divide into {heads} heads")
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)  # heads, 2, D / 2


def _weights(folder: Path) -> StateDict:
    whole = folder / "consolidated.pth"
    files = [whole] if whole.exists() else sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise CheckpointError(f"{PARAMS} lies here, but no consolidated.pth and no consolidated.00.pth")
    pairs: list[tuple[str, Tensor]] = []
    for path in files:
        with named(path):
            pairs += read_tensors(path).items()
    return collect(pairs)


def _tokenizer(folder: Path, params: Mapping[str, Any]) -> Path:
    """The file that params.json names, by its last part: training writes the path on its own machine."""
    wanted = (params.get("data") or {}).get("tokenizer_path") or "tokenizer.model"
    path = folder / Path(str(wanted)).name
    return path if path.is_file() else folder / "tokenizer.model"


def _tower_values(values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(values.keys() - TOWER_KEYS)
    if unknown:
        raise CheckpointError(f"{PARAMS}: vision_model has {unknown[0]!r}, which no PE tower has")
    published = dict(output_dim=None, pool_type="none", use_ln_post=False, mlp_ratio=4.0, patch_size=14)
    return {**published, **values}


def _text_config(model: Mapping[str, Any]) -> dict[str, Any]:
    try:
        dim, heads = int(model["dim"]), int(model["n_heads"])
        text = dict(
            model_type="llama",
            hidden_size=dim,
            intermediate_size=feed_forward_size(dim, model.get("ffn_dim_multiplier"), int(model["multiple_of"])),
            num_hidden_layers=int(model["n_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(model.get("n_kv_heads") or heads),
            head_dim=dim // heads,
            vocab_size=int(model["vocab_size"]),
            rms_norm_eps=float(model.get("norm_eps", 1e-5)),
            max_position_embeddings=int(model.get("max_seqlen") or 11520),
            tie_word_embeddings=bool(model.get("weight_tying", False)),
            rope_parameters=_rope(model),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{PARAMS}: 'model' lacks a size of the language model, or has none: {error}") from error
    return text


def _rope(model: Mapping[str, Any]) -> dict[str, Any]:
    theta = float(model.get("rope_theta", 500000.0))
    factor = float(model.get("rope_scale_factor") or 1)
    if factor == 1 or model.get("use_scaled_rope") is False:
        return dict(rope_type="default", rope_theta=theta)
    if "high_freq_factor" not in model:
        raise CheckpointError(f"{PARAMS}: rope_scale_factor is {factor}, but there is no high_freq_factor")
    return dict(
        rope_type="llama3",
        rope_theta=theta,
        factor=factor,
        low_freq_factor=float(model.get("low_freq_factor", LOW_FREQ_FACTOR)),
        high_freq_factor=float(model["high_freq_factor"]),
        original_max_position_embeddings=int(model.get("old_context_len", OLD_CONTEXT_LENGTH)),
    )


def feed_forward_size(dim: int, multiplier: float | None, multiple_of: int) -> int:
    """Width of the gated layer: two thirds of four times `dim`, scaled, rounded up to a multiple."""
    hidden = int(8 * dim / 3)
    hidden = int(multiplier * hidden) if multiplier else hidden
    return multiple_of * -(-hidden // multiple_of)
