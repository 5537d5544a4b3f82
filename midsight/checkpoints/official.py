"""The published layout: how its files are wrapped, and which tensors a configuration has.

A CLIP pair keeps its text tower's entries bare and the vision tower's under `visual.`; a Lang or Spatial model is a
vision tower alone, without a prefix. Source: the published loader and model code.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from midsight.checkpoints.renames import VISUAL, StateDict, collect, under
from midsight.configs import PEConfig, PETextConfig
from midsight.errors import CheckpointError

WRAPPERS = ("state_dict", "weights", "model")  # the last one is what training and detection code writes
WRAPPED_NAMES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and by torch.compile
POOL_MLP_RATIO = 4  # of the attention pooling, in every size, also where the blocks use another ratio
Shape = tuple[int, ...]


def unwrap(loaded: Any) -> StateDict:
    """The tensors by name inside what a `.pt` file holds: bare, or under `state_dict`, `weights` or `model`.

    Raises:
        CheckpointError: it is no dictionary of tensors.
    """
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"expected a dictionary of tensors by name, found {describe(loaded)}")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"expected tensors by name, found {describe(value)} under {str(key)[:80]!r}")
    return {key: value.detach() for key, value in loaded.items()}


def describe(value: Any) -> str:
    """What a value is, in a word or two, for a message."""
    if isinstance(value, Mapping):
        keys = ", ".join(repr(str(key)[:40]) for key in list(value)[:3])
        return f"a dictionary with the keys {keys}" if keys else "an empty dictionary"
    return f"a {type(value).__name__}"


def strip_wrappers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Names without what DistributedDataParallel and torch.compile put in front; anywhere, as the published loader."""

    def bare(key: str) -> str:
        for name in WRAPPED_NAMES:
            key = key.replace(name, "")
        return key

    return collect((bare(key), value) for key, value in state_dict.items())


def from_official(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Published keys as the models name them: wrapper prefixes gone, `visual.` kept only beside a text tower."""
    published = strip_wrappers(state_dict)
    vision = under(VISUAL, published)
    return vision if len(vision) == len(published) else published


def to_official(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The published layout itself: the same tensors under the same names."""
    return dict(state_dict)


def vision_shapes(config: PEConfig) -> dict[str, Shape]:
    """Shape of every entry of a vision tower, by its published name; a packaged `stem` is not listed."""
    width, patch = config.width, config.patch_size
    shapes: dict[str, Shape] = {}
    if config.use_cls_token:
        shapes["class_embedding"] = (width,)
    if config.use_abs_posemb:
        shapes["positional_embedding"] = (int(config.use_cls_token) + config.grid**2, width)
    if config.stem == "patch":
        shapes["conv1.weight"] = (width, 3, patch, patch)
    if config.use_ln_pre:
        shapes |= _norm("ln_pre", width)
    for index in range(config.layers):
        block = f"transformer.resblocks.{index}"
        shapes |= _block(block, width, int(width * config.mlp_ratio))
        if config.ls_init_value is not None:
            shapes |= {f"{block}.ls_1.gamma": (width,), f"{block}.ls_2.gamma": (width,)}
    if config.use_ln_post:
        shapes |= _norm("ln_post", width)
    if config.pool_type == "attn":
        shapes["attn_pool.probe"] = (1, 1, width)
        shapes |= _attention("attn_pool.attn", width) | _norm("attn_pool.layernorm", width)
        shapes |= _mlp("attn_pool.mlp", width, POOL_MLP_RATIO * width)
    if config.output_dim is not None:
        shapes["proj"] = (width, config.output_dim)
    return shapes


def text_shapes(config: PETextConfig) -> dict[str, Shape]:
    """Shape of every entry of a text tower, by its published name."""
    width = config.width
    shapes: dict[str, Shape] = {
        "positional_embedding": (config.context_length, width),
        "text_projection": (width, config.output_dim),
        "token_embedding.weight": (config.vocab_size, width),
    }
    for index in range(config.layers):
        shapes |= _block(f"transformer.resblocks.{index}", width, int(width * config.mlp_ratio))
    return shapes | _norm("ln_final", width)


def expected_shapes(vision: PEConfig, text: PETextConfig | None = None) -> dict[str, Shape]:
    """Shape of every entry of a published state dict: a CLIP pair, or a vision tower alone (text None)."""
    if text is None:
        return vision_shapes(vision)
    prefixed = {VISUAL + key: shape for key, shape in vision_shapes(vision).items()}
    return prefixed | text_shapes(text) | {"logit_scale": ()}


def opaque(key: str, vision: PEConfig) -> bool:
    """True for the weights of a packaged stem, whose names and shapes belong to its own code."""
    return vision.stem != "patch" and key.removeprefix(VISUAL).startswith(("stem.", "conv1."))


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _attention(name: str, width: int) -> dict[str, Shape]:
    return {
        f"{name}.in_proj_weight": (3 * width, width),
        f"{name}.in_proj_bias": (3 * width,),
        f"{name}.out_proj.weight": (width, width),
        f"{name}.out_proj.bias": (width,),
    }


def _mlp(name: str, width: int, hidden: int) -> dict[str, Shape]:
    return {
        f"{name}.c_fc.weight": (hidden, width),
        f"{name}.c_fc.bias": (hidden,),
        f"{name}.c_proj.weight": (width, hidden),
        f"{name}.c_proj.bias": (width,),
    }


def _block(name: str, width: int, hidden: int) -> dict[str, Shape]:
    norms = _norm(f"{name}.ln_1", width) | _norm(f"{name}.ln_2", width)
    return _attention(f"{name}.attn", width) | norms | _mlp(f"{name}.mlp", width, hidden)


def count_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
