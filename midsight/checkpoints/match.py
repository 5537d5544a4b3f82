"""Which configuration a state dict belongs to, and whether it is the one that was asked for."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from midsight.checkpoints.official import expected_shapes, opaque
from midsight.checkpoints.renames import VISUAL, text_tower, vision_tower
from midsight.configs import MODELS, PEConfig, PETextConfig
from midsight.errors import CheckpointError, ConfigError

BLOCK = "transformer.resblocks."
HEADS = {model.vision.width: model.vision.heads for model in MODELS.values()}  # not in any tensor's shape
TEXT_HEAD_WIDTH = 64  # in every published text tower
POSITIONS = "positional_embedding"


def infer_config(state_dict: Mapping[str, Tensor]) -> tuple[str | None, PEConfig, PETextConfig | None]:
    """The configuration that a published state dict belongs to, read from its shapes.

    The name is that of the published model of those shapes (the position table may be another grid's, and is then
    told by `image_size`), else None. PE-Lang models and their `-Tiling` variants have equal shapes: the name is the
    plain one's. The number of heads is in no shape: it is that of the published towers of the same width.

    Raises:
        CheckpointError: no vision tower, a packaged stem, or a width for which the number of heads is not known.
    """
    vision_weights, text_weights = vision_tower(state_dict), text_tower(state_dict)
    vision = _vision_config(vision_weights)
    text = _text_config(text_weights) if text_weights else None
    for model in MODELS.values():
        if same_but_grid(model.vision, vision) and text in (None, model.text):
            return model.name, vision, text
    return None, vision, text


def same_but_grid(one: PEConfig, other: PEConfig) -> bool:
    """Whether two towers differ at most in the grid of their position tables."""
    return one.patch_size == other.patch_size and replace(one, image_size=other.image_size) == other


def check(
    state_dict: Mapping[str, Tensor],
    vision: PEConfig,
    text: PETextConfig | None = None,
    source: str | Path = "state dict",
) -> None:
    """Compares a published state dict with a configuration, strictly: names, shapes, floating dtype.

    Raises:
        CheckpointError: something is missing, left over or of another shape; says what was found, and the call that
            loads it if there is one.
    """
    blocks = vision.layers + (text.layers if text else 0)
    if blocks > len(state_dict):
        raise CheckpointError(f"{source}: holds {len(state_dict)} tensors, too few for the {blocks} blocks asked for")
    differences = _compare(state_dict, vision, text)
    if any(differences):
        explanation = _explain_other(state_dict, vision, text, source)
        raise CheckpointError(explanation or _list(differences, len(expected_shapes(vision, text)), source))
    for key, tensor in state_dict.items():
        if not torch.is_floating_point(tensor):
            raise CheckpointError(
                f"{source}: {key} is {tensor.dtype}, expected a floating dtype; it is quantised or foreign"
            )


def published_name(vision: PEConfig, text: PETextConfig | None) -> str | None:
    """The published model of exactly this configuration; a Core tower may come without its text tower."""
    return next((m.name for m in MODELS.values() if m.vision == vision and text in (None, m.text)), None)


def _compare(
    state_dict: Mapping[str, Tensor], vision: PEConfig, text: PETextConfig | None
) -> tuple[list[str], list[str], list[str]]:
    """What is missing, what is left over, and what has another shape (with both shapes)."""
    shapes = expected_shapes(vision, text)
    missing = [key for key in shapes if key not in state_dict]
    if vision.stem != "patch" and not any(key.removeprefix(VISUAL).startswith("stem.") for key in state_dict):
        missing.append(f"the weights of the stem {vision.stem!r}")
    unexpected = [key for key in state_dict if key not in shapes and not opaque(key, vision)]
    misshaped = [
        f"{key} {tuple(state_dict[key].shape)} for {shape}"
        for key, shape in shapes.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    return missing, unexpected, misshaped


def _explain_other(
    state_dict: Mapping[str, Tensor], vision: PEConfig, text: PETextConfig | None, source: str | Path
) -> str | None:
    """The message for weights that are sound but another configuration's; None where they are not sound."""
    try:
        name, found, found_text = infer_config(state_dict)
    except (CheckpointError, ConfigError):
        return None
    if any(_compare(state_dict, found, found_text)):
        return None
    asked = published_name(vision, text)
    if text is not None and found_text is None:
        holds = name or f"a tower of width {found.width}"
        load = f"pe.VisionTransformer.from_config({name!r}, pretrained=True, checkpoint_path={str(source)!r})"
        return f"{source}: holds a vision tower alone ({holds}), but a CLIP pair was asked for. Load it with {load}."
    if same_but_grid(found, vision) and found_text == text:
        kind = "VisionTransformer" if text is None else "CLIP"
        call = (
            f"pe.{kind}.from_config({asked or name!r}, pretrained=True, image_size={found.image_size}, "
            f"checkpoint_path={str(source)!r}); the model then takes inputs of any size"
        )
        return (
            f"{source}: its position table is for {found.image_size} pixels (a grid of {found.grid}x{found.grid}), but "
            f"{vision.image_size} pixels ({vision.grid}x{vision.grid}) were asked for. "
            f"Load it with {call if asked or name else f'image_size={found.image_size} in its configuration'}."
        )
    return _explain_name(name, asked, found, vision, found_text, source)


def _explain_name(
    name: str | None,
    asked: str | None,
    found: PEConfig,
    vision: PEConfig,
    found_text: PETextConfig | None,
    source: str | Path,
) -> str:
    kind = "VisionTransformer" if found_text is None else "CLIP"
    holds, wanted = name or "a tower of its own", asked or "another"
    message = (
        f"{source}: holds {holds} ({_details(found, vision)}), but {wanted} ({_details(vision, found)}) was asked for."
    )
    if name is None:
        return f"{message} Load it with the configuration that it was saved from."
    load = f"pe.{kind}.from_config({name!r}, pretrained=True, checkpoint_path={str(source)!r})"
    return f"{message} Load it with {load}."


def _details(config: PEConfig, other: PEConfig) -> str:
    """The sizes of a tower, and what else tells it from one of the same sizes."""
    sizes = {"width": config.width, "layers": config.layers, "patch_size": config.patch_size}
    said = f"width {config.width}, {config.layers} blocks, patch {config.patch_size}"
    if any(getattr(other, field) != value for field, value in sizes.items()):
        return said
    telling = ("pool_type", "output_dim", "image_size", "use_cls_token", "ls_init_value", "stem")
    differing = [field for field in telling if getattr(config, field) != getattr(other, field)]
    return ", ".join([said, *(f"{field} {getattr(config, field)}" for field in differing)])


def _list(differences: tuple[list[str], list[str], list[str]], entries: int, source: str | Path) -> str:
    parts = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in zip(("missing", "unexpected", "of another shape"), differences, strict=True)
        if found
    ]
    return (
        f"{source}: does not fit the configuration, which has {entries} tensors: {'; '.join(parts)}. "
        "Copy or download the file again, or load it with the configuration that it was saved from."
    )


def _vision_config(tensors: Mapping[str, Tensor]) -> PEConfig:
    if any(key.startswith("stem.") for key in tensors):
        raise CheckpointError("a tower with a packaged stem: load its whole folder, where config.json describes it")
    width, patch = _size(tensors, "conv1.weight", 0, 4), _size(tensors, "conv1.weight", 3, 4)
    if width not in HEADS:
        raise CheckpointError(
            f"the width {width} is none of a published tower's, so the number of heads is not known. Give the "
            "configuration, or load a folder written by save_pretrained, which carries it"
        )
    class_token, table = "class_embedding" in tensors, POSITIONS in tensors
    rows = _size(tensors, POSITIONS, 0, 2) - int(class_token) if table else (224 // patch) ** 2
    grid = round(rows**0.5)
    if grid < 1 or grid * grid != rows:
        raise CheckpointError(f"the position table has {rows} patches, expected a square number")
    pooled, projected = "attn_pool.probe" in tensors, "proj" in tensors
    return PEConfig(
        patch_size=patch,
        width=width,
        layers=_count_blocks(tensors),
        heads=HEADS[width],
        mlp_ratio=_size(tensors, f"{BLOCK}0.mlp.c_fc.weight", 0, 2) / width,
        output_dim=_size(tensors, "proj", 1, 2) if projected else None,
        ls_init_value=0.1 if f"{BLOCK}0.ls_1.gamma" in tensors else None,
        image_size=grid * patch,
        use_abs_posemb=table,
        use_cls_token=class_token,
        pool_type="attn" if pooled else "tok" if projected and class_token else "avg" if projected else "none",
        use_ln_pre="ln_pre.weight" in tensors,
        use_ln_post="ln_post.weight" in tensors,
    )


def _text_config(tensors: Mapping[str, Tensor]) -> PETextConfig:
    width = _size(tensors, "token_embedding.weight", 1, 2)
    return PETextConfig(
        context_length=_size(tensors, POSITIONS, 0, 2),
        width=width,
        heads=max(1, width // TEXT_HEAD_WIDTH),
        layers=_count_blocks(tensors),
        output_dim=_size(tensors, "text_projection", 1, 2),
        mlp_ratio=_size(tensors, f"{BLOCK}0.mlp.c_fc.weight", 0, 2) / width,
        vocab_size=_size(tensors, "token_embedding.weight", 0, 2),
    )


def _size(tensors: Mapping[str, Tensor], key: str, axis: int, ndim: int) -> int:
    """One side of a tensor that must be there."""
    if key not in tensors:
        where = "no vision tower" if key == "conv1.weight" else "incomplete"
        raise CheckpointError(f"{where}: {key} is missing among {len(tensors)} tensors")
    shape = tuple(tensors[key].shape)
    if len(shape) != ndim or not shape[axis]:
        raise CheckpointError(f"{key} has the shape {shape}, expected {ndim} axes, none of length 0")
    return shape[axis]


def _count_blocks(tensors: Mapping[str, Tensor]) -> int:
    numbers = {key.removeprefix(BLOCK).partition(".")[0] for key in tensors if key.startswith(BLOCK)}
    return len(numbers)


def is_pair(state_dict: Mapping[str, Tensor]) -> bool:
    """True for a CLIP pair, False for a tower alone."""
    return any(key.startswith(VISUAL) for key in state_dict)
