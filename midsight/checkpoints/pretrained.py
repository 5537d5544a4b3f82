"""A model in a folder: weights and, beside them, everything that is needed to use them as they were meant.

`config.json` holds both towers and the preprocessing; the weight files carry a digest of it, so that weights are
never read with the wrong normalisation after an interrupted save or a mixed-up copy.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from midsight.checkpoints import hub
from midsight.checkpoints.config_files import FORMAT, describe_config, digest, is_known, read_config
from midsight.checkpoints.identity import identity
from midsight.checkpoints.match import check, infer_config, is_pair, same_but_grid
from midsight.checkpoints.reader import detect_layout, named, read_json, read_tensors, to_published
from midsight.checkpoints.renames import StateDict, vision_tower
from midsight.checkpoints.writer import SHARD_BYTES, write_json, write_sharded
from midsight.configs import MODELS, PEConfig, PETextConfig, PreprocessConfig
from midsight.errors import CheckpointError, OutputError
from midsight.pages import cast

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
DIGEST = "midsight_config"  # in the safetensors header


@dataclass(frozen=True)
class Pretrained:
    """Weights with their configuration and preprocessing."""

    name: str | None  # the published name, or one's own; None where it is not known
    vision: PEConfig
    text: PETextConfig | None
    preprocess: PreprocessConfig
    state_dict: StateDict = field(repr=False)  # published names, the stored dtype
    metadata: dict[str, Any] = field(default_factory=dict)  # seed, revision, figures, whatever was saved

    def identity(self, layer: int | None = None) -> str:
        """`checkpoints.identity` of these weights, this preprocessing and that layer."""
        return identity(self.state_dict, self.preprocess, layer)


def save_pretrained(
    folder: str | Path,
    state_dict: Mapping[str, Tensor],
    *,
    name: str | None,
    vision: PEConfig,
    text: PETextConfig | None,
    preprocess: PreprocessConfig,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = SHARD_BYTES,
) -> Path:
    """Writes `config.json` and `model.safetensors` (shards above `max_shard_size`) into a folder.

    A new folder appears whole or not at all. In an existing one each file is replaced whole.

    Args:
        state_dict: published names; a pair, or a tower alone where `text` is None.
        metadata: anything that JSON can hold, such as seed, data and revision of a training run.
        dtype: store the weights in this floating dtype (`logit_scale` keeps its own).

    Raises:
        CheckpointError: the weights do not fit the configuration, or `dtype`.
        OutputError: the folder cannot be written.
    """
    check(state_dict, vision, text, f"the weights to save in {folder}")
    config = describe_config(name, vision, text, preprocess, metadata)
    with whole_folder(folder) as here:
        write_sharded(here, state_dict, metadata={DIGEST: digest(config)}, dtype=dtype, max_shard_size=max_shard_size)
        write_json(here / CONFIG, config)
    return Path(folder)


def load_pretrained(folder: str | Path, *, dtype: torch.dtype | None = None) -> Pretrained:
    """What `save_pretrained` wrote; also folders of timm and open_clip that name a PE architecture.

    Args:
        folder: holds `config.json` or `open_clip_config.json`, and the weights.
        dtype: cast the weights to it; None keeps what is stored, mapped from the file.

    Raises:
        CheckpointError: files are missing, cut, foreign, or do not belong together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    path = folder / (OPEN_CLIP_CONFIG if (folder / OPEN_CLIP_CONFIG).exists() else CONFIG)
    config = read_json(path)
    with named(path):
        described = read_config(config)
    with named(folder):
        state_dict = to_published(read_tensors(folder))
    check(state_dict, described.vision, described.text, folder)
    if config.get("format") == FORMAT:
        _check_digest(folder, config)
    weights = _cast(state_dict, dtype)
    return Pretrained(
        described.name, described.vision, described.text, described.preprocess, weights, described.metadata
    )


def open_pretrained(source: str | Path, *, revision: str | None = None, dtype: torch.dtype | None = None) -> Pretrained:
    """Any source that `read_state_dict` takes, with its configuration: read from the folder, or from the shapes.

    A bare file of a published model gets that model's published preprocessing; a tower out of a PerceptionLM, which
    was trained on bicubic pixels, gets that.

    Raises:
        CheckpointError: as `read_state_dict` and `infer_config`.
        UnknownModelError: neither a file nor a repository nor a published name.
    """
    found = hub.resolve(source, revision=revision)
    if has_config(found.path):
        return load_pretrained(found.path, dtype=dtype)
    with named(found.path):
        tensors = read_tensors(found.path)
        state_dict = to_published(tensors)
        name, vision, text = infer_config(state_dict)
    check(state_dict, vision, text, found.path)
    if found.name is not None and same_but_grid(MODELS[found.name].vision, vision):
        name = found.name  # tells the Tiling variants apart
    bicubic = detect_layout(tensors) == "perception_lm"
    preprocess = PreprocessConfig(vision.image_size, interpolation="bicubic" if bicubic else "bilinear")
    return Pretrained(name, vision, text, preprocess, _cast(state_dict, dtype))


def has_config(path: Path) -> bool:
    """Whether a folder tells which model it holds, in midsight's, timm's or open_clip's way."""
    if (path / OPEN_CLIP_CONFIG).is_file():
        return True
    return (path / CONFIG).is_file() and is_known(read_json(path / CONFIG))


def _cast(state_dict: StateDict, dtype: torch.dtype | None) -> StateDict:
    return state_dict if dtype is None else {key: cast(tensor, dtype) for key, tensor in state_dict.items()}


def load_tower(source: object, vision: PEConfig, *, revision: str | None = None) -> StateDict:
    """A vision tower's weights in float32, checked against its configuration; taken out of a pair if need be.

    Raises:
        CheckpointError: missing, cut, foreign, or of another configuration.
    """
    state_dict = _load(source, vision, None, revision)
    return {key: cast(tensor, torch.float32) for key, tensor in state_dict.items()}


def load_pair(source: object, vision: PEConfig, text: PETextConfig, *, revision: str | None = None) -> StateDict:
    """A CLIP pair's weights in float32, checked against its configurations; errors as `load_tower`."""
    state_dict = _load(source, vision, text, revision)
    return {key: cast(tensor, torch.float32) for key, tensor in state_dict.items()}


def _load(source: object, vision: PEConfig, text: PETextConfig | None, revision: str | None) -> StateDict:
    path = hub.resolve(source, revision=revision).path  # type: ignore[arg-type]  # refuses what is no source
    with named(path):
        state_dict = to_published(read_tensors(path))
        if text is None and is_pair(state_dict):
            state_dict = vision_tower(state_dict)
        _check_folder(path, vision)
    check(state_dict, vision, text, path)
    return state_dict


def _check_folder(path: Path, vision: PEConfig) -> None:
    """Heads and pooling are in no shape: where a folder tells them, they must be those asked for."""
    if not path.is_dir() or not (path / CONFIG).exists():
        return
    config = read_json(path / CONFIG)
    if config.get("format") == FORMAT:
        found = read_config(config).vision
        ignored = {"drop_path": 0.0, "ls_init_value": None, "image_size": found.image_size}  # matter in training only
        other = [
            f.name for f in fields(found) if f.name not in ignored and getattr(found, f.name) != getattr(vision, f.name)
        ]
        same_shapes = [name for name in other if name in ("heads", "attn_pooler_heads", "use_rope2d", "pool_type")]
        if same_shapes:
            told = ", ".join(f"{n} = {getattr(found, n)!r} for {getattr(vision, n)!r}" for n in same_shapes)
            raise CheckpointError(f"{CONFIG} tells of another configuration than was asked for: {told}")


@contextlib.contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A folder to write into: a new one takes its name only when the block ends well; an existing one is itself.

    Raises:
        OutputError: the place is a file, or cannot be written.
    """
    target = Path(folder)
    if target.exists():
        if not target.is_dir():
            raise OutputError(f"{target}: is a file, expected a folder or a name that is free")
        yield target
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target}: could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_digest(folder: Path, config: Mapping[str, Any]) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get(DIGEST)
        if found is not None and found != digest(config):
            raise CheckpointError(
                f"{folder}: {CONFIG} was not saved with {path.name}: its towers or preprocessing are others than those "
                "of the weights. An interrupted save or a mixed-up copy does that; save or copy the whole folder again"
            )
