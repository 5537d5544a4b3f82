"""From any source to a file or folder in another layout, tensor by tensor; and what a source holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from midsight.checkpoints import hub, open_clip, timm
from midsight.checkpoints.open_clip import to_open_clip
from midsight.checkpoints.perception_lm import NATIVE, PREFIX, TIMM_MODEL, to_perception_lm
from midsight.checkpoints.pretrained import (
    CONFIG,
    OPEN_CLIP_CONFIG,
    Pretrained,
    open_pretrained,
    save_pretrained,
    whole_folder,
)
from midsight.checkpoints.reader import detect_layout, named, read_tensors
from midsight.checkpoints.renames import text_tower, vision_tower
from midsight.checkpoints.timm import to_timm
from midsight.checkpoints.writer import SHARD_BYTES, write_json, write_safetensors, write_sharded, write_torch
from midsight.configs import PEConfig, PETextConfig, PreprocessConfig
from midsight.errors import CheckpointError, InputError

Layout = Literal["official", "timm", "open_clip", "perception_lm", "midsight"]
LAYOUTS: tuple[Layout, ...] = ("official", "timm", "open_clip", "perception_lm", "midsight")
VISION_ONLY = ("timm", "perception_lm")  # layouts without a place for the text tower


@dataclass(frozen=True)
class Converted:
    """What `convert` did."""

    name: str | None  # the published configuration
    paths: tuple[Path, ...]  # files written
    entries: int  # tensors written
    left_out: tuple[str, ...]  # names of tensors for which the target layout has no place


@dataclass(frozen=True)
class Summary:
    """What a checkpoint holds."""

    path: Path
    layout: str  # of its names: official, timm, open_clip, perception_lm or transformers
    name: str | None  # the published configuration of these shapes; Lang and its Tiling variant have the same
    vision: PEConfig
    text: PETextConfig | None
    preprocess: PreprocessConfig
    entries: int
    parameters: int
    nbytes: int
    dtypes: tuple[str, ...]
    metadata: dict[str, Any]


def inspect(source: str | Path, *, revision: str | None = None) -> Summary:
    """What a source holds; reads names, shapes and configuration, no weights.

    Raises:
        CheckpointError, UnknownModelError: as `open_pretrained`.
    """
    path = hub.resolve(source, revision=revision).path
    found = open_pretrained(source, revision=revision)
    with named(path):
        layout = detect_layout(read_tensors(path)) or "official"
    tensors = found.state_dict.values()
    return Summary(
        path=path,
        layout=layout,
        name=found.name,
        vision=found.vision,
        text=found.text,
        preprocess=found.preprocess,
        entries=len(found.state_dict),
        parameters=sum(tensor.numel() for tensor in tensors),
        nbytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        metadata=found.metadata,
    )


def convert(
    source: str | Path,
    target: str | Path,
    to: Layout,
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = SHARD_BYTES,
) -> Converted:
    """Writes the weights of a source in another layout, without a copy of the model in memory.

    Args:
        source: as `read_state_dict`.
        target: "official" writes a `.pt` file, "midsight" a folder. The others write a folder that the other program
            opens by itself, or the weights alone where the name ends in `.safetensors`. What is there is replaced.
        to: the layout.
        dtype: cast on the way; None keeps what is stored, bit for bit (8-bit floats value for value: a `.pt` file has
            float16 for them).
        max_shard_size: of one file in a folder, "5GB" or bytes.

    Raises:
        CheckpointError: the source is no sound checkpoint, or the layout cannot hold the model at all.
        InputError: a layout or a target that cannot be.
        OutputError: the target cannot be written; what was there before is intact.
    """
    target = Path(target)
    if to not in LAYOUTS:
        written = ", ".join(LAYOUTS)
        raise InputError(
            f"{to!r} is not among the layouts that are written here, {written}; midsight.transformers.convert writes a "
            "folder for transformers"
        )
    found = open_pretrained(source, revision=revision)
    weights: Mapping[str, Tensor] = vision_tower(found.state_dict) if to in VISION_ONLY else found.state_dict
    left_out = [*(text_tower(found.state_dict) if to in VISION_ONLY else ()), *_not_read(source, revision)]
    if to == "official":
        _needs_suffix(target, to, (".pt", ".pth"))
        write_torch(target, weights, dtype=dtype)
        paths = [target]
    elif to == "midsight":
        paths = _write_midsight(target, found, dtype, max_shard_size)
    else:
        weights = {"timm": to_timm, "open_clip": to_open_clip, "perception_lm": to_perception_lm}[to](weights)
        paths = _write_foreign(target, to, found, weights, dtype, max_shard_size)
    return Converted(found.name, tuple(paths), len(weights), tuple(left_out))


def _not_read(source: str | Path, revision: str | None) -> list[str]:
    """Names of what lies beside a PerceptionLM's vision tower: its language model and projector."""
    path = hub.resolve(source, revision=revision).path
    with named(path):
        tensors = read_tensors(path)
    if detect_layout(tensors) != "perception_lm":
        return []
    return [key for key in tensors if not key.startswith((PREFIX, TIMM_MODEL, NATIVE))]


def _needs_suffix(target: Path, to: str, suffixes: tuple[str, ...]) -> None:
    if target.suffix not in suffixes or target.is_dir():
        raise InputError(f"{target}: the {to} layout is one file; give it a name that ends in {' or '.join(suffixes)}")


def _write_midsight(
    folder: Path, found: Pretrained, dtype: torch.dtype | None, max_shard_size: int | str
) -> list[Path]:
    if folder.suffix in (".pt", ".pth", ".safetensors"):
        raise InputError(f"{folder}: the midsight layout is a folder; give the name of one")
    save_pretrained(
        folder,
        found.state_dict,
        name=found.name,
        vision=found.vision,
        text=found.text,
        preprocess=found.preprocess,
        metadata=found.metadata,
        dtype=dtype,
        max_shard_size=max_shard_size,
    )
    return sorted(path for path in folder.iterdir() if path.name == CONFIG or path.name.startswith("model"))


def _write_foreign(
    target: Path,
    to: Layout,
    found: Pretrained,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    max_shard_size: int | str,
) -> list[Path]:
    if target.suffix == ".safetensors" and not target.is_dir():
        write_safetensors(target, weights, dtype=dtype)
        return [target]
    config = {"timm": timm_config, "open_clip": open_clip_config}[to](found) if to != "perception_lm" else None
    stem, config_name = ("open_clip_model", OPEN_CLIP_CONFIG) if to == "open_clip" else ("model", CONFIG)
    with whole_folder(target) as folder:
        written = write_sharded(folder, weights, stem=stem, dtype=dtype, max_shard_size=max_shard_size)
        if config is not None:
            write_json(folder / config_name, config)
            written.append(folder / config_name)
    return [target / path.name for path in written]


def timm_config(found: Pretrained) -> dict[str, Any]:
    """The `config.json` by which timm opens a folder ("local-dir:...").

    Raises:
        CheckpointError: a tower of no published configuration, which timm has no name for.
    """
    architecture, tag = _known(timm.NAMES, found, "timm").split(".")
    side, classes = found.vision.image_size, found.vision.output_dim or 0
    return {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": found.vision.width,
        "global_pool": "map" if classes else "",
        "pretrained_cfg": {
            "tag": tag,
            "custom_load": False,
            "input_size": [3, side, side],
            "fixed_input_size": True,
            "interpolation": found.preprocess.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "squash" if found.preprocess.resize == "squash" else "center",
            "mean": list(found.preprocess.mean),
            "std": list(found.preprocess.std),
            "num_classes": classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head" if classes else None,
            "license": "apache-2.0",
        },
    }


def open_clip_config(found: Pretrained) -> dict[str, Any]:
    """The `open_clip_config.json` by which open_clip opens a folder ("local-dir:...").

    Raises:
        CheckpointError: a model of no published PE-Core configuration.
    """
    _known(open_clip.NAMES, found, "open_clip")
    trunk, text = timm.NAMES[str(found.name)].partition(".")[0], found.text
    if text is None:
        raise CheckpointError("open_clip's layout needs both towers, and these weights are a vision tower alone")
    squash = found.preprocess.resize == "squash"
    return {
        "model_cfg": {
            "embed_dim": text.output_dim,
            "vision_cfg": {
                "image_size": found.vision.image_size,
                "timm_model_name": trunk,
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": {
                "context_length": text.context_length,
                "vocab_size": text.vocab_size,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
            },
            "custom_text": True,
        },
        "preprocess_cfg": {
            "mean": list(found.preprocess.mean),
            "std": list(found.preprocess.std),
            "interpolation": found.preprocess.interpolation,
            "resize_mode": "squash" if squash else "shortest",
        },
    }


def _known(names: Mapping[str, str], found: Pretrained, program: str) -> str:
    if found.name is None or found.name not in names:
        raise CheckpointError(
            f"{program} has no name for this configuration ({found.name or 'none of the published ones'}), so it could "
            "not open the folder; write the weights alone, to a file that ends in .safetensors"
        )
    return names[found.name]
