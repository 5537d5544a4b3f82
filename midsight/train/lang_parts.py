"""A PLM to begin with, and which of its parts are trained: all of a part, adapters beside its linear maps, or nothing.

Adapters are peft's (LoRA, arXiv 2106.09685). They are merged behind the last step, so what is saved is an ordinary PLM.
"""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from midsight import pe
from midsight.checkpoints import open_pretrained
from midsight.configs import PEConfig
from midsight.errors import CheckpointError, ConfigError, LayerError, MissingDependencyError
from midsight.pe.headless import headless_config, headless_weights
from midsight.plm import PLM
from midsight.plm.assemble import join, open_language
from midsight.plm.folders import open_folder, resolve
from midsight.plm.packing import check_packable
from midsight.train import optim
from midsight.train.lang_config import PARTS, LangConfig

_ADAPTER = "default"  # peft's name for the only one


def start_plm(config: LangConfig) -> PLM:
    """The model to begin with, in float32: a PLM, or a tower and a language model with a fresh projector.

    Raises:
        ConfigError: no beginning or two, sizes that do not go together.
        LayerError: a layer that the tower does not have.
        CheckpointError, UnknownModelError: weights that cannot be had.
    """
    _ = config.starts
    wanted = config.model
    torch.manual_seed(config.seed)
    if not wanted.start:
        found = open_pretrained(config.tower.start, dtype=torch.float32)
        own = replace(found.vision, image_size=found.preprocess.image_size)
        vision, weights = _tower(config, own, found.state_dict)
        language = open_language(config.language.start)
        return join(language, vision, weights, wanted.pooling or 2, wanted.max_tiles, wanted.max_frames)
    model = open_folder(PLM, resolve(wanted.start), torch.float32)
    if model.tokenizer is None or model.config.vision is None:
        raise CheckpointError(f"{wanted.start}: a PLM to train needs a tower and a tokenizer")
    check_packable(model.language_model)
    vision, weights = _tower(config, model.config.vision, model.vision_model.state_dict())
    model.vision_model = pe.VisionTransformer(vision)
    model.vision_model.load_state_dict(weights, strict=False)
    pooling = wanted.pooling or model.config.projector_pooling_ratio
    model.vision_projector.pooling_ratio = pooling
    model.config = replace(
        model.config,
        vision=vision,
        projector_pooling_ratio=pooling,
        max_tiles=wanted.max_tiles,
        max_frames=wanted.max_frames,
    )
    return model


def _tower(config: LangConfig, own: PEConfig, weights: dict[str, Tensor]) -> tuple[PEConfig, dict[str, Tensor]]:
    """The tower that is trained, and its weights, positions at its size; LayerScale that is new is left out."""
    wanted = config.tower
    scale = own.ls_init_value
    if scale is None and wanted.train == "full":
        scale = wanted.layer_scale or None
    if not -own.layers <= wanted.layer < own.layers:
        raise LayerError(f"tower.layer {wanted.layer} is outside the tower, which has {own.layers} blocks")
    vision = replace(
        headless_config(own, wanted.image_size or own.image_size, scale, wanted.drop_path),
        layers=wanted.layer % own.layers + 1,
    )
    return vision, headless_weights(weights, pe.VisionTransformer(vision))


def prepare(model: PLM, config: LangConfig) -> None:
    """Freezes what is not trained and puts adapters in, in place.

    Raises:
        ConfigError: `tower.frozen` names nothing.
        MissingDependencyError: peft is not installed.
    """
    for name, module_name in PARTS.items():
        module, kind = getattr(model, module_name), getattr(config, name).train
        if kind == "lora":
            _inject(module, config)
        else:
            module.requires_grad_(kind == "full")
    for start in config.tower.frozen:
        matched = [p for name, p in model.vision_model.named_parameters() if name.startswith(start)]
        if not matched:
            raise ConfigError(f"tower.frozen: {start!r} begins the name of no parameter of the tower")
        for parameter in matched:
            parameter.requires_grad_(False)


def _inject(module: nn.Module, config: LangConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependencyError("adapters need peft: pip install 'midsight[train]'") from error
    linear = [n for n, m in module.named_modules() if isinstance(m, nn.Linear) and not n.endswith("lm_head")]
    pattern = "|".join(map(re.escape, linear))  # a list would match the ends of names
    inject_adapter_in_model(
        LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=pattern), module, _ADAPTER
    )


def merged(values: Mapping[str, Tensor], config: LangConfig) -> dict[str, Tensor]:
    """Weights with adapters to those of an ordinary model, under its names; others as they are."""
    scale = config.lora.alpha / config.lora.rank
    result = {}
    for key, value in values.items():
        if ".lora_" in key:
            continue
        stem, base, last = key.rpartition(".base_layer.")
        if base and last == "weight":
            down, up = (values[f"{stem}.lora_{side}.{_ADAPTER}.weight"] for side in "AB")
            value = value + scale * (up @ down)
        result[f"{stem}.{last}" if base else key] = value
    return result


def build_optimizer(model: nn.Module, config: LangConfig) -> torch.optim.Optimizer:
    """AdamW, with one group for each part and each weight decay.

    Args:
        model: whose parameters' names hold those of the parts.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = next(part for part, module in PARTS.items() if f"{module}." in name)
        decays = optim.decays(name, parameter)
        group = groups.setdefault((part, decays), {"params": [], "part": part})
        group["params"].append(parameter)
        group["weight_decay"] = config.optim.weight_decay if decays else 0.0
        group["factor"] = (getattr(config, part).lr or config.optim.lr) / config.optim.lr
    chosen = config.optim
    in_order = [groups[key] for key in sorted(groups)]
    return torch.optim.AdamW(in_order, lr=chosen.lr, betas=chosen.betas, eps=chosen.eps)


def choose_attention(model: PLM, wanted: str, device: torch.device) -> None:
    """Lets the language model compute attention as asked; "auto" is flash-attention where it can be.

    Raises:
        MissingDependencyError: flash-attention is asked for and not installed.
    """
    there = device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None
    if wanted == "flash_attention_2" and not there:
        raise MissingDependencyError("language.attention flash_attention_2 needs a CUDA device and flash-attn")
    chosen = ("flash_attention_2" if there else "sdpa") if wanted == "auto" else wanted
    model.language_model.set_attn_implementation(chosen)  # type: ignore[operator]
