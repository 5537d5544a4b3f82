"""timm's layout of the vision tower (`vit_pe_core_*`, `vit_pe_lang_*`, `vit_pe_spatial_*`), both ways.

Three things differ beyond names: the position table and class token carry a batch axis, the attention pooling keeps
its query apart from key and value, and the projection is a linear layer whose bias is zero. Source: timm's `eva.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from midsight.checkpoints.renames import StateDict, Table, rename_all, reverse, text_tower, vision_tower
from midsight.errors import CheckpointError

RENAMES: Table = (  # published, timm
    ("transformer.resblocks.", "blocks."),
    ("conv1.", "patch_embed.proj."),
    ("class_embedding", "cls_token"),
    ("positional_embedding", "pos_embed"),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("attn_pool.probe", "attn_pool.latent"),
    ("attn_pool.attn.out_proj.", "attn_pool.proj."),
    ("attn_pool.layernorm.", "attn_pool.norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".attn.in_proj_weight", ".attn.qkv.weight"),
    (".attn.in_proj_bias", ".attn.qkv.bias"),
    (".attn.out_proj.", ".attn.proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".ls_1.gamma", ".gamma_1"),
    (".ls_2.gamma", ".gamma_2"),
)
AXES = (("positional_embedding", 2, "pos_embed", 3), ("class_embedding", 1, "cls_token", 3))  # timm's begin with 1s
NAMES: dict[str, str] = {  # published name -> timm's model and tag
    "PE-Core-T16-384": "vit_pe_core_tiny_patch16_384.fb",
    "PE-Core-S16-384": "vit_pe_core_small_patch16_384.fb",
    "PE-Core-B16-224": "vit_pe_core_base_patch16_224.fb",
    "PE-Core-L14-336": "vit_pe_core_large_patch14_336.fb",
    "PE-Core-G14-448": "vit_pe_core_gigantic_patch14_448.fb",
    "PE-Lang-L14-448": "vit_pe_lang_large_patch14_448.fb",
    "PE-Lang-G14-448": "vit_pe_lang_gigantic_patch14_448.fb",
    "PE-Lang-L14-448-Tiling": "vit_pe_lang_large_patch14_448.fb_tiling",
    "PE-Lang-G14-448-Tiling": "vit_pe_lang_gigantic_patch14_448.fb_tiling",
    "PE-Spatial-T16-512": "vit_pe_spatial_tiny_patch16_512.fb",
    "PE-Spatial-S16-512": "vit_pe_spatial_small_patch16_512.fb",
    "PE-Spatial-B16-512": "vit_pe_spatial_base_patch16_512.fb",
    "PE-Spatial-L14-448": "vit_pe_spatial_large_patch14_448.fb",
    "PE-Spatial-G14-448": "vit_pe_spatial_gigantic_patch14_448.fb",
}


def to_timm(state_dict: Mapping[str, Tensor]) -> StateDict:
    """A published vision tower under timm's names. Views of the given tensors, except for a zero `head.bias`.

    Args:
        state_dict: a vision tower alone (`vision_tower` takes it out of a CLIP pair), any floating dtype.

    Raises:
        CheckpointError: there is a text tower or a packaged stem, for which timm has no place.
    """
    text = text_tower(state_dict)
    if text:
        raise CheckpointError(
            f"timm's layout has no place for a text tower, and {len(text)} of these tensors belong to one. "
            "Convert vision_tower(state_dict) alone, or use to_open_clip, which keeps both."
        )
    vision = vision_tower(state_dict)
    if any(key.startswith("stem.") for key in vision):
        raise CheckpointError(
            "timm's PE models have a patch embedding; a packaged stem cannot be written in its layout"
        )
    renamed = rename_all(vision, RENAMES)
    for _, _, key, ndim in AXES:
        if key in renamed:
            renamed[key] = _with_axes(renamed[key], ndim)
    return _with_head(_split_pool(renamed))


def from_timm(state_dict: Mapping[str, Tensor]) -> StateDict:
    """timm's vision tower under the published names, without a prefix; the exact inverse of `to_timm`.

    Raises:
        CheckpointError: a head with a bias, which the published projection does not have.
    """
    renamed = rename_all(_with_proj(_fuse_pool(dict(state_dict))), reverse(RENAMES))
    for key, ndim, _, _ in AXES:
        if key in renamed:
            renamed[key] = _with_axes(renamed[key], ndim)
    return renamed


def is_timm(keys: Mapping[str, Tensor]) -> bool:
    """True where the names are those of a timm PE tower."""
    return "patch_embed.proj.weight" in keys and any(key.startswith("blocks.0.attn.qkv.") for key in keys)


def _with_axes(tensor: Tensor, ndim: int) -> Tensor:
    """The tensor with `ndim` axes, by adding or removing leading ones of length 1; as it is where it has others."""
    while tensor.ndim > ndim and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor.reshape((1,) * (ndim - tensor.ndim) + tuple(tensor.shape))


def _split_pool(tensors: StateDict) -> StateDict:
    """The pooling's fused projection as timm's `q` and `kv`: views of its first third and of the rest."""
    for kind in ("weight", "bias"):
        fused = tensors.pop(f"attn_pool.attn.qkv.{kind}", None)
        if fused is not None:
            width = fused.shape[0] // 3
            tensors[f"attn_pool.q.{kind}"], tensors[f"attn_pool.kv.{kind}"] = fused[:width], fused[width:]
    return tensors


def _fuse_pool(tensors: StateDict) -> StateDict:
    for kind in ("weight", "bias"):
        query, rest = tensors.pop(f"attn_pool.q.{kind}", None), tensors.pop(f"attn_pool.kv.{kind}", None)
        if query is not None and rest is not None:
            tensors[f"attn_pool.attn.qkv.{kind}"] = torch.cat((query, rest))
        elif query is not None or rest is not None:
            raise CheckpointError(f"timm's attn_pool.q.{kind} and attn_pool.kv.{kind} belong together; one is missing")
    return tensors


def _with_head(tensors: StateDict) -> StateDict:
    projection = tensors.pop("proj", None)
    if projection is not None:
        tensors["head.weight"] = projection.t()
        tensors["head.bias"] = projection.new_zeros(projection.shape[1])
    return tensors


def _with_proj(tensors: StateDict) -> StateDict:
    weight, bias = tensors.pop("head.weight", None), tensors.pop("head.bias", None)
    if bias is not None and bool(torch.count_nonzero(bias)):
        raise CheckpointError(
            "head.bias is not zero, and the published projection has no bias: this is a timm model that was trained "
            "further with a classifier. Remove head.weight and head.bias to take its tower without them."
        )
    if weight is not None:
        if weight.ndim != 2:
            raise CheckpointError(f"head.weight has the shape {tuple(weight.shape)}, expected (output_dim, width)")
        tensors["proj"] = weight.t()
    return tensors
