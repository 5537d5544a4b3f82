"""Writing weights one tensor at a time, so that no copy of the model is ever held: safetensors and `.pt`."""

import io
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from midsight.errors import CheckpointError, InputError
from midsight.files import atomic_write

DTYPES = {  # safetensors' names
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
STORAGES = {  # torch.save's names
    torch.float64: "DoubleStorage",
    torch.float32: "FloatStorage",
    torch.float16: "HalfStorage",
    torch.bfloat16: "BFloat16Storage",
}
SHARD_BYTES = 5_000_000_000
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
ALIGNMENT = 64  # bytes, of each tensor inside a `.pt`, as torch.save does


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """One safetensors file, written whole or not at all.

    Args:
        tensors: floating tensors by name; views and mapped files are fine.
        metadata: goes into the header beside `format: pt`.
        dtype: cast to it on the way, except tensors without axes (`logit_scale`: half precision would move it).

    Raises:
        CheckpointError: a dtype that is no floating one, or a value that `dtype` cannot hold.
        OutputError: the file could not be written.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    order = sorted(tensors, key=lambda key: (-_target(tensors[key], dtype).itemsize, key))  # keeps all aligned
    for key in order:
        target, tensor = _target(tensors[key], dtype), tensors[key]
        if target not in DTYPES:
            raise CheckpointError(f"{key} is {target}, expected a floating dtype: only weights can be written")
        end = offset + tensor.numel() * target.itemsize
        entries[key] = {"dtype": DTYPES[target], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for key in order:
            file.write(_bytes(key, tensors[key], _target(tensors[key], dtype)))


def write_sharded(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    stem: str = "model",
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = SHARD_BYTES,
) -> list[Path]:
    """`model.safetensors`, or shards and an index where it would be larger than `max_shard_size` ("5GB", bytes).

    Returns:
        The files written; the index, if any, is last. Files of an earlier save under the same stem are removed.

    Raises:
        CheckpointError, OutputError: as `write_safetensors`.
        InputError: `max_shard_size` is not a size.
    """
    shards = _split(tensors, parse_size(max_shard_size), dtype)
    single = len(shards) == 1
    names = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    names = [f"{stem}.safetensors"] if single else names
    for name, keys in zip(names, shards, strict=True):
        write_safetensors(folder / name, {key: tensors[key] for key in keys}, metadata=metadata, dtype=dtype)
    written = [folder / name for name in names]
    if not single:
        total = sum(_nbytes(tensor, dtype) for tensor in tensors.values())
        weight_map = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        written.append(folder / f"{stem}.safetensors.index.json")
        write_json(written[-1], index)
    ours = re.compile(rf"{re.escape(stem)}(-\d{{5}}-of-\d{{5}})?\.safetensors(\.index\.json)?")
    for old in folder.iterdir():
        if ours.fullmatch(old.name) and old not in written:
            old.unlink()
    return written


def write_json(path: Path, value: object) -> None:
    """A JSON file for people and programs, written whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_torch(path: str | Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None) -> None:
    """A `.pt` file as torch.save writes it: a bare dictionary of tensors, each with a storage of its own.

    torch.save would need every tensor of a cast or a transposed model in memory at once, and would write the whole of
    what a view looks at; this writes the same format (a zip archive without compression) one tensor at a time.
    Tensors of 8-bit floats have no storage of that kind and become float16, which holds each of their values.

    Raises:
        CheckpointError, OutputError: as `write_safetensors`.
    """
    targets = {key: _stored(tensor, dtype) for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if targets[key] not in STORAGES:
            raise CheckpointError(f"{key} is {tensor.dtype}, expected a floating dtype: only weights can be written")
    root = "archive"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, file, f"{root}/data.pkl", _pickle(tensors, targets))
        _entry(archive, file, f"{root}/byteorder", b"little")
        for number, (key, tensor) in enumerate(tensors.items()):
            _entry(archive, file, f"{root}/data/{number}", _bytes(key, tensor, targets[key]))
        _entry(archive, file, f"{root}/version", b"3\n")


def parse_size(size: int | str) -> int:
    """Bytes: a number, or a text such as "5GB" or "500MB" (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B?)", str(size).upper())
    unit = match[2] if match else "?"
    unit = "" if unit == "B" else unit + "B" if len(unit) == 1 else unit
    if match is None or unit not in UNITS or int(float(match[1]) * UNITS[unit]) < 1:
        raise InputError(f"max_shard_size must be a size such as 5GB or 500MB, got {size!r}")
    return int(float(match[1]) * UNITS[unit])


def _target(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.ndim and tensor.is_floating_point() else tensor.dtype


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """As `_target`, for a `.pt` file."""
    target = _target(tensor, dtype)
    return torch.float16 if target is torch.float8_e4m3fn else target


def _nbytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * _target(tensor, dtype).itemsize


def _bytes(key: str, tensor: Tensor, target: torch.dtype) -> memoryview:
    """A tensor's bytes in row-major order; a copy only where it is cast, transposed or on another device."""
    cast = tensor.detach().to("cpu", target).contiguous()
    if _cut_off(tensor, cast):
        raise CheckpointError(f"{key} has values up to {float(tensor.abs().max()):.3g}, too large for {cast.dtype}")
    return cast.reshape(-1).view(torch.uint8).numpy().data


def _cut_off(tensor: Tensor, cast: Tensor) -> bool:
    """Whether a cast lost large values: half precision makes them infinite, 8-bit floats the largest that they have."""
    if tensor.dtype in (cast.dtype, torch.float8_e4m3fn):  # every other dtype holds 8-bit floats
        return False
    if cast.dtype is torch.float8_e4m3fn:
        return bool((tensor.abs() > torch.finfo(cast.dtype).max).any())
    return not bool(cast.isfinite().all()) and bool(tensor.isfinite().all())


def _split(tensors: Mapping[str, Tensor], limit: int, dtype: torch.dtype | None) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for key, tensor in tensors.items():
        nbytes = _nbytes(tensor, dtype)
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(key)
        size += nbytes
    return shards


def _entry(archive: zipfile.ZipFile, file: IO[bytes], name: str, data: bytes | memoryview) -> None:
    """One stored entry whose data start at a multiple of 64 bytes: the gap is an extra field of the header."""
    info = zipfile.ZipInfo(name)
    start = archive.start_dir + 30 + len(name.encode())  # 30: a local header's fixed part
    gap = -start % ALIGNMENT
    gap += ALIGNMENT if 0 < gap < 4 else 0  # 4: an extra field's own head
    if gap:
        info.extra = struct.pack("<HH", 0x4246, gap - 4) + b"Z" * (gap - 4)
    info.file_size = len(data)
    with archive.open(info, "w") as entry:
        entry.write(data)


class _Storage:
    """Stands for one tensor's storage while the dictionary is pickled; its bytes are an entry of the archive."""

    def __init__(self, kind: str, key: str, numel: int) -> None:
        self.kind, self.key, self.numel = kind, key, numel


class _Tensor:
    """Pickles as torch.save pickles a tensor."""

    def __init__(self, storage: _Storage, shape: tuple[int, ...]) -> None:
        self.storage, self.shape = storage, shape

    def __reduce__(self) -> tuple[Any, ...]:
        strides = [1]
        for size in reversed(self.shape[1:]):
            strides.append(strides[-1] * size)
        stride = tuple(reversed(strides)) if self.shape else ()
        rebuild = torch._utils._rebuild_tensor_v2  # what torch.load expects to find here
        return rebuild, (self.storage, 0, self.shape, stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _Storage):
            return ("storage", getattr(torch, obj.kind), obj.key, "cpu", obj.numel)
        return None


def _pickle(tensors: Mapping[str, Tensor], targets: Mapping[str, torch.dtype]) -> bytes:
    buffer = io.BytesIO()
    described = {
        key: _Tensor(_Storage(STORAGES[targets[key]], str(number), tensor.numel()), tuple(tensor.shape))
        for number, (key, tensor) in enumerate(tensors.items())
    }
    _Pickler(buffer, protocol=2).dump(described)
    return buffer.getvalue()
