"""Twins of midsight's models in timm, open_clip and transformers, with every weight drawn anew.

Freshly built peers give outputs near 1e-5, where any two models agree; `randomize` draws weights that do not.
"""

from typing import Any

import torch
from torch import Tensor, nn

TIMM_NAMES = {  # midsight -> timm
    "PE-Core-T16-384": "vit_pe_core_tiny_patch16_384",
    "PE-Core-S16-384": "vit_pe_core_small_patch16_384",
    "PE-Core-B16-224": "vit_pe_core_base_patch16_224",
    "PE-Core-L14-336": "vit_pe_core_large_patch14_336",
    "PE-Core-G14-448": "vit_pe_core_gigantic_patch14_448",
    "PE-Lang-L14-448": "vit_pe_lang_large_patch14_448",
    "PE-Lang-G14-448": "vit_pe_lang_gigantic_patch14_448",
    "PE-Lang-L14-448-Tiling": "vit_pe_lang_large_patch14_448",
    "PE-Lang-G14-448-Tiling": "vit_pe_lang_gigantic_patch14_448",
    "PE-Spatial-T16-512": "vit_pe_spatial_tiny_patch16_512",
    "PE-Spatial-S16-512": "vit_pe_spatial_small_patch16_512",
    "PE-Spatial-B16-512": "vit_pe_spatial_base_patch16_512",
    "PE-Spatial-L14-448": "vit_pe_spatial_large_patch14_448",
    "PE-Spatial-G14-448": "vit_pe_spatial_gigantic_patch14_448",
}
OPEN_CLIP_NAMES = {
    "PE-Core-T16-384": "PE-Core-T-16-384",
    "PE-Core-S16-384": "PE-Core-S-16-384",
    "PE-Core-B16-224": "PE-Core-B-16",
    "PE-Core-L14-336": "PE-Core-L-14-336",
    "PE-Core-G14-448": "PE-Core-bigG-14-448",
}
ZERO = ("head.bias",)  # the published projection has no bias
SCALES = ("gamma_1", "gamma_2", "ls_1.gamma", "ls_2.gamma")


def randomize(module: nn.Module, seed: int = 0) -> Any:
    """Every parameter drawn anew, in place, so that no part of the model is without effect; returns the module.

    Matrices keep the variance of what passes through; gains lie around 1, LayerScale around 0.5, biases around 0.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw(name, parameter, generator)
    return module


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """A state dict of such shapes, drawn as `randomize` draws."""
    generator = torch.Generator().manual_seed(seed)
    state_dict = {name: torch.empty(shape) for name, shape in shapes.items()}
    for name, tensor in state_dict.items():
        draw(name, tensor, generator)
    return state_dict


def draw(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    """Fills one tensor according to its name and shape."""
    if name.endswith(ZERO):
        tensor.zero_()
    elif name.endswith("logit_scale"):
        tensor.fill_(3.0)
    elif name.endswith(SCALES):
        tensor.normal_(0.5, 0.1, generator=generator)
    elif tensor.ndim == 1 and name.endswith(".weight"):  # the gain of a norm
        tensor.normal_(1, 0.2, generator=generator)
    elif tensor.ndim == 1:
        tensor.normal_(0, 0.2, generator=generator)
    elif name.endswith(("positional_embedding", "pos_embed", "token_embedding.weight")):
        tensor.normal_(0, 0.5, generator=generator)
    elif name.endswith(("class_embedding", "cls_token", "probe", "latent")):
        tensor.normal_(0, 1, generator=generator)
    else:
        tensor.normal_(0, 1.2 * (tensor.numel() / tensor.shape[0]) ** -0.5, generator=generator)


def timm_tower(name: str, *, seed: int = 0, **overrides: Any) -> Any:
    """timm's twin of a published tower, random weights, evaluation mode.

    Off its native grid timm rescales RoPE's positions and the published code does not. Give `img_size` and set
    `ref_feat_shape` to that size's grid, and the two agree there as well.
    """
    import timm

    with _no_init():
        model = timm.create_model(TIMM_NAMES[name], **overrides).eval()
    return randomize(model, seed)


def open_clip_pair(name: str, *, seed: int = 0, drawn: bool = True) -> Any:
    """open_clip's twin of a published pair, evaluation mode, random weights; unset ones where `drawn` is False."""
    import open_clip

    with _no_init():
        model = open_clip.create_model(OPEN_CLIP_NAMES[name], pretrained=None, load_weights=False).eval()
    return randomize(model, seed) if drawn else model


class _no_init:
    """Turns torch.nn.init's drawing functions, which take longer than all else, into no-ops inside the block."""

    NAMES = ("normal_", "trunc_normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")

    def __enter__(self) -> None:
        self.saved = {name: getattr(nn.init, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)

    def __exit__(self, *error: object) -> None:
        for name, function in self.saved.items():
            setattr(nn.init, name, function)
