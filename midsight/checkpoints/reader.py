"""From files to a published state dict: which kind of file, which layout, and nothing in it that is run.

Tensors are views of the mapped file wherever the format allows it, so that reading costs address space and no memory.
"""

import argparse
import json
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from midsight.checkpoints import hub
from midsight.checkpoints.official import describe, from_official, strip_wrappers, unwrap
from midsight.checkpoints.open_clip import from_open_clip, is_open_clip
from midsight.checkpoints.perception_lm import from_perception_lm, is_perception_lm
from midsight.checkpoints.renames import StateDict, under
from midsight.checkpoints.timm import from_timm, is_timm
from midsight.errors import CheckpointError

MAX_PICKLE = 2 << 20  # bytes of names and shapes in a `.pt`; the published ones have less than 200 KB
MAX_JSON = 64 << 20  # bytes of an index or a configuration
FOLDER_FILES = ("model.safetensors", "open_clip_model.safetensors")
LEGACY_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SETTINGS: list[Any] = [argparse.Namespace]  # plain values that DETA's training puts beside the weights
_settings_lock = threading.Lock()  # what torch.load lets pass belongs to the whole process
TRANSFORMERS = "clip."  # how midsight.transformers names the model inside


def read_state_dict(source: str | Path, *, revision: str | None = None) -> StateDict:
    """The published state dict of a source, whatever its layout.

    Args:
        source: a file, a folder, a published name, a Hugging Face repository id, or `hf://repository:file`.
        revision: branch, tag or commit of the repository.

    Returns:
        Tensors by published name, in the dtype they are stored in: a CLIP pair (vision under `visual.`, text bare),
        or a vision tower alone without a prefix.

    Raises:
        CheckpointError: missing, empty, cut, foreign or hostile; or not reachable and not in the cache.
        UnknownModelError: neither a file nor a published name.
    """
    path = hub.resolve(source, revision=revision).path
    with named(path):
        return to_published(read_tensors(path))


def to_published(tensors: Mapping[str, Tensor]) -> StateDict:
    """A state dict of any known layout under the published names; the layout is told by the names.

    Raises:
        CheckpointError: names of no known layout.
    """
    bare = strip_wrappers(tensors)
    layout = detect_layout(bare)
    if layout is None:
        first = ", ".join(repr(key[:60]) for key in list(tensors)[:3])
        raise CheckpointError(
            f"not a Perception Encoder in any known layout ({len(tensors)} tensors, the first are {first}). "
            "Expected the published, timm's, open_clip's or PerceptionLM's names"
        )
    return READERS[layout](bare)


def detect_layout(tensors: Mapping[str, Tensor]) -> str | None:
    """Which layout the names are of: a key of `READERS`, or None for a foreign one."""
    bare = strip_wrappers(tensors)
    if is_perception_lm(bare):
        return "perception_lm"
    if is_open_clip(bare):
        return "open_clip"
    if is_timm(bare):
        return "timm"
    if bare and all(key.startswith(TRANSFORMERS) for key in bare):
        return "transformers"
    blocks = ("transformer.resblocks.", "visual.transformer.resblocks.")
    return "official" if any(key.startswith(blocks) for key in bare) else None


def from_transformers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The published state dict of a model that `midsight.transformers` saved."""
    return from_official(under(TRANSFORMERS, state_dict))


READERS: dict[str, Callable[[Mapping[str, Tensor]], StateDict]] = {
    "official": from_official,
    "timm": from_timm,
    "open_clip": from_open_clip,
    "perception_lm": from_perception_lm,
    "transformers": from_transformers,
}


def read_tensors(path: str | Path) -> StateDict:
    """The tensors of a file or folder under the names that they have there, memory-mapped.

    Raises:
        CheckpointError: as `read_state_dict`.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if path.name.endswith(".index.json"):
        return _read_sharded(path)
    head = _head(path)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path)
    if head.startswith(b"PK"):
        _check_archive(path)
        return _load_pickle(path, mmap=True)
    if head.startswith(LEGACY_PICKLE):
        return _load_pickle(path, mmap=False)
    raise CheckpointError("neither a .pt file of torch.save nor safetensors")


class named:
    """Puts the file's name in front of the CheckpointErrors that are raised inside the block."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CheckpointError) and not str(error).startswith(str(self.path)):
            raise CheckpointError(f"{self.path}: {error}") from error.__cause__


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: missing, over 64 MB, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes are too many for a configuration or an index")
        value = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({str(error)[:100]})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _head(path: Path) -> bytes:
    """The first bytes, after the cases in which a file is no checkpoint at all."""
    try:
        if not path.is_file():
            raise CheckpointError("there is no such file" if not path.exists() else "is not a regular file")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror or error})") from error
    if not head:
        raise CheckpointError("is empty (0 bytes); copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError("is a Git LFS pointer, not the weights: run `git lfs pull`, or download the file itself")
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            "is a web page, not weights: the download got an error or login page; get the file itself"
        )
    return head


def _read_safetensors(path: Path) -> StateDict:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"not a whole safetensors file ({reason}); copy or download it again") from error


def _check_archive(path: Path) -> None:
    """Refuses archives that torch.save does not write, before anything in them is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise CheckpointError(f"a .pt file that was cut or damaged ({error}); copy or download it again") from error
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    for entry in entries:
        if ".." in entry.filename.split("/") or entry.filename.startswith(("/", "\\")):
            raise CheckpointError(f"an archive with the entry {entry.filename[:80]!r}, which leads out of it; not read")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError("a compressed archive, which torch.save does not write; not read")
        if entry.filename.endswith("/constants.pkl"):
            raise CheckpointError("a TorchScript program, not weights; save the model's state_dict with torch.save")
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
        raise CheckpointError("a zip archive, but not one of torch.save: expected one data.pkl with names and shapes")


def _load_pickle(path: Path, mmap: bool) -> StateDict:
    try:
        with _settings_lock, torch.serialization.safe_globals(SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a hostile pickle can fail anywhere in the weights-only unpickler, in any way
        raise CheckpointError(_explain(error)) from error
    tensors = unwrap(loaded)
    for key, tensor in tensors.items():
        _check_storage(key, tensor)
    return tensors


def _explain(error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if "weights_only" in str(error) or "Unsupported" in str(error) or "GLOBAL" in str(error):
        return (
            "holds more than tensors, which could run code when loaded, so it was not loaded. "
            "Ask its author for a state dict, or for safetensors"
        )
    return f"a .pt file that was cut, damaged or not written by torch.save ({reason[:160]}); copy or download it again"


def _check_storage(key: str, tensor: Tensor) -> None:
    """A tensor must own the bytes it claims: strides of 0 would let a small file pose as any size."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise CheckpointError(
            f"{key[:80]!r} is {describe(tensor)} with the layout {tensor.layout}, expected a dense one"
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{key[:80]!r} claims the shape {tuple(tensor.shape)}, but the file holds less data")


def _read_folder(folder: Path) -> StateDict:
    indexes = [folder / f"{name}.index.json" for name in FOLDER_FILES]
    found = next((p for p in (*(folder / name for name in FOLDER_FILES), *indexes) if p.exists()), None)
    others = sorted([*folder.glob("*.safetensors"), *folder.glob("*.pt")])
    if found is None and len(others) == 1:
        found = others[0]
    if found is None:
        what = f"{len(others)} weight files" if others else "no weights"
        raise CheckpointError(
            f"a folder with {what}; expected model.safetensors, model.safetensors.index.json, "
            "open_clip_model.safetensors or a single .pt or .safetensors file. Name the file itself"
        )
    with named(found):
        return read_tensors(found)


def _read_sharded(index: Path) -> StateDict:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("an index without a weight_map of tensor names and files")
    names: dict[str, list[str]] = {}
    for key, name in weight_map.items():
        names.setdefault(str(name), []).append(key)
    tensors: StateDict = {}
    for name, keys in names.items():
        with named(index.parent / name):
            shard = _read_safetensors(_shard(index.parent, name))
        absent = [key for key in keys if key not in shard]
        if absent:
            raise CheckpointError(
                f"the shard {name} lacks {len(absent)} of its tensors, the first is {absent[0][:80]!r}"
            )
        tensors |= {key: shard[key] for key in keys}
    return tensors


def _shard(folder: Path, name: str) -> Path:
    """A shard's file: a plain name in the folder, and no link that leads elsewhere but into a hub cache's blobs."""
    if Path(name).name != name or name in ("", ".", "..") or set(name) & set("\\\0"):
        raise CheckpointError(f"the index names the shard {name[:80]!r}, expected a file name without folders")
    path = folder / name
    if not path.exists():
        raise CheckpointError("the shard is missing; copy or download the whole folder again")
    allowed = [folder.resolve()]
    if folder.absolute().parent.name == "snapshots":  # cache/models--org--name/snapshots/<commit>/file -> ../../blobs
        allowed.append(folder.absolute().parent.parent.resolve() / "blobs")
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise CheckpointError(f"the shard is a link that leads out of its folder, to {path.resolve()}; not read")
    _head(path)
    return path
