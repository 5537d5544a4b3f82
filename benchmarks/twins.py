"""The same weights in midsight, timm and open_clip, and the ways in which each is run."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import Tensor, nn

from benchmarks.common import check_same
from benchmarks.names import OPEN_CLIP_NAMES, TIMM_NAMES
from midsight import checkpoints, pe
from midsight.configs import MODELS

BF16 = torch.bfloat16


@torch.no_grad()
def draw(model: nn.Module, seed: int = 0) -> None:
    """Every weight anew. Fresh modules hold zeros and tiny numbers, with which all outputs would be nearly the same."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            continue  # the logit scale
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:  # norms and biases
            centre = 1.0 if name.endswith("weight") and ("ln_" in name or "layernorm" in name) else 0.0
            parameter.copy_(centre + 0.1 * noise)
        elif "embedding" in name or "probe" in name:
            parameter.copy_(0.5 * noise)
        elif name.endswith("proj") or name.endswith("text_projection"):
            parameter.copy_(noise * parameter.shape[0] ** -0.5)  # these stand on the right of the product
        else:
            parameter.copy_(noise * parameter[0].numel() ** -0.5)


@dataclass(frozen=True)
class Twins:
    """One pair of published size: ours, and the peers with its weights. Each is built on first use."""

    name: str

    @cached_property
    def ours(self) -> pe.CLIP:
        model = pe.CLIP.from_config(self.name).eval().requires_grad_(False)
        draw(model)
        return model

    @cached_property
    def timm(self) -> nn.Module:
        model = timm.create_model(TIMM_NAMES[self.name]).eval().requires_grad_(False)
        model.load_state_dict(checkpoints.to_timm(checkpoints.vision_tower(self.ours.state_dict())))
        return model

    @cached_property
    def open_clip(self) -> Any:
        model = open_clip.create_model(OPEN_CLIP_NAMES[self.name], pretrained=None).eval().requires_grad_(False)
        missing = model.load_state_dict(checkpoints.to_open_clip(self.ours.state_dict()), strict=False)
        if missing.unexpected_keys or any(not key.endswith("attn_mask") for key in missing.missing_keys):
            raise RuntimeError(f"{self.name}: open_clip does not take the weights: {missing}")
        return model

    def packed(self, dtype: torch.dtype) -> pe.CLIP:
        """Our pair on the same weights, not copied, ready for inference in `dtype`, as `midsight.load` makes it."""
        with torch.device("meta"):
            model = pe.CLIP.from_config(self.name)
        model.load_state_dict(self.ours.state_dict(), assign=True)
        return model.requires_grad_(False).pack(dtype)

    def check_images(self, images: Tensor) -> None:
        """Refuse to time towers that disagree."""
        expected = inference(self.timm, images)()
        ours, open_clip = self.packed(torch.float32).visual, self.open_clip.encode_image
        check_same(inference(ours, images)(), expected, f"{self.name}, midsight and timm")
        check_same(inference(open_clip, images)(), expected, f"{self.name}, open_clip and timm")

    def check_texts(self, tokens: Tensor) -> None:
        """Refuse to time text towers that disagree."""
        expected = inference(self.open_clip.encode_text, tokens)()
        ours = self.packed(torch.float32).encode_text
        check_same(inference(ours, tokens)(), expected, f"{self.name}, midsight and open_clip")

    def save(self, folder: Path) -> None:
        """The pair as midsight saves it, the vision tower for timm, and the pair for open_clip."""
        weights, info = self.ours.state_dict(), MODELS[self.name]
        checkpoints.save_pretrained(
            folder / "midsight", weights, name=self.name, vision=info.vision, text=info.text, preprocess=info.preprocess
        )
        checkpoints.write_safetensors(
            folder / "timm.safetensors", checkpoints.to_timm(checkpoints.vision_tower(weights))
        )
        checkpoints.write_safetensors(folder / "open_clip.safetensors", checkpoints.to_open_clip(weights))


def inference(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], Tensor]:
    """`function` of the inputs in inference mode."""

    def call() -> Tensor:
        with torch.inference_mode():
            return function(*inputs)

    return call


def autocast(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], Tensor]:
    """The same under bfloat16 autocast."""

    def call() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", BF16):
            return function(*inputs)

    return call


def in_bf16(model: nn.Module) -> Any:
    """A copy with bfloat16 weights."""
    return copy.deepcopy(model).to(BF16)
