"""Small towers of the real kind, every weight drawn anew so that no part of them is near zero or one."""

from typing import TypeVar

import torch
from torch import nn

from midsight import pe

M = TypeVar("M", bound=nn.Module)
VISION = dict(
    patch_size=16, width=64, layers=4, heads=2, mlp_ratio=3.5, output_dim=24, image_size=64, attn_pooler_heads=4
)
TEXT = dict(context_length=20, width=48, heads=3, layers=3, output_dim=24)


def drawn(model: M, seed: int = 0) -> M:
    """Every parameter replaced by seeded noise of a sensible size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
            else:
                parameter.normal_(0.5 if ".ls_" in name or "ln_" in name else 0, 0.2, generator=generator)
    return model.eval()


def vision(seed: int = 0, **overrides: object) -> pe.VisionTransformer:
    """A tower of four blocks."""
    return drawn(pe.VisionTransformer(pe.PEConfig(**(VISION | overrides))), seed)


def clip(seed: int = 0, **overrides: object) -> pe.CLIP:
    """A pair with the whole vocabulary."""
    return drawn(pe.CLIP(pe.PEConfig(**(VISION | overrides)), pe.PETextConfig(**TEXT)), seed)


def images(batch: int, height: int = 64, width: int = 64, seed: int = 1) -> torch.Tensor:
    """Noise in [-1, 1]."""
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
