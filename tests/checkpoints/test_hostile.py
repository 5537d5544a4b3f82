"""Files that mean harm or are not what they say: one CheckpointError each, within a second, and nothing is run."""

import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from midsight import checkpoints
from midsight.checkpoints import writer
from midsight.checkpoints.writer import write_sharded
from midsight.errors import CheckpointError
from tests.checkpoints import tiny


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refused(path: Path, match: str) -> str:
    """The message of the one error; every way of opening gives it, quickly."""
    for open_it in (checkpoints.read_state_dict, checkpoints.open_pretrained, checkpoints.inspect):
        start = time.perf_counter()
        with pytest.raises(CheckpointError, match=match) as caught:
            open_it(path)
        assert time.perf_counter() - start < 1
        assert str(path.name) in str(caught.value)
        assert len(str(caught.value)) < 600
    return str(caught.value)


CANARY_LAYOUTS: dict[str, Callable[[dict[str, torch.Tensor], Canary], object]] = {
    "bare": lambda state, canary: {**state, "x": canary},
    "state_dict": lambda state, canary: {"state_dict": state, "hook": canary},
    "weights": lambda state, canary: {"weights": {**state, "x": canary}},
    "module": lambda state, canary: {**{f"module.{k}": v for k, v in state.items()}, "module.x": canary},
    "timm": lambda state, canary: {**checkpoints.to_timm(checkpoints.vision_tower(state)), "x": canary},
    "open_clip": lambda state, canary: {**checkpoints.to_open_clip(state), "x": canary},
    "perception_lm": lambda state, canary: {
        **checkpoints.to_perception_lm(checkpoints.vision_tower(state)),
        "x": canary,
    },
    "alone": lambda state, canary: canary,
}


@pytest.mark.parametrize("layout", CANARY_LAYOUTS)
@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_pickle_never_runs(layout: str, new: bool, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.pt"
    torch.save(CANARY_LAYOUTS[layout](tiny.pair(), Canary(canary)), path, _use_new_zipfile_serialization=new)
    refused(path, "could run code")
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # the file was dangerous


def test_a_plain_pickle_never_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Canary(tmp_path / "canary"), protocol=2))
    refused(path, "cut, damaged or not written by torch.save|could run code")
    assert not (tmp_path / "canary").exists()


def edited_zip(path: Path, edit: Callable[[zipfile.ZipFile], None], mode: int = zipfile.ZIP_STORED) -> Path:
    """A real `.pt` file with something done to the archive."""
    buffer = io.BytesIO()
    torch.save(tiny.pair(), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", mode) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        edit(new)
    return path


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    refused(edited_zip(tmp_path / "a.pt", lambda z: z.writestr("../evil", b"x")), "leads out of it")
    refused(edited_zip(tmp_path / "b.pt", lambda z: z.writestr("/etc/evil", b"x")), "leads out of it")
    refused(edited_zip(tmp_path / "c.pt", lambda z: None, zipfile.ZIP_DEFLATED), "compressed archive")
    refused(edited_zip(tmp_path / "d.pt", lambda z: z.writestr("archive/constants.pkl", b"x")), "TorchScript")
    refused(edited_zip(tmp_path / "e.pt", lambda z: z.writestr("other/data.pkl", b"x")), r"expected one data\.pkl")
    assert not (tmp_path.parent / "evil").exists()


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("report.docx", b"words")
    refused(tmp_path / "a.pt", "not one of torch.save")


@pytest.mark.parametrize("sixteenths", range(1, 16))
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_cut_anywhere(sixteenths: int, name: str, tmp_path: Path) -> None:
    write = checkpoints.write_torch if name.endswith(".pt") else checkpoints.write_safetensors
    path = tmp_path / name
    write(path, tiny.weights())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * sixteenths // 16])
    refused(path, "copy or download it again")


def with_pickle(path: Path, data: bytes) -> Path:
    """An archive as torch.save makes it, with a pickle of one's own and one storage of 64 bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", data), ("byteorder", b"little"), ("version", b"3"), ("data/0", bytes(64))):
            archive.writestr(f"archive/{name}", content)
    return path


def tensor_pickle(numel: int, shape: tuple[int, ...]) -> bytes:
    """One tensor that claims a storage of `numel` floats and a shape."""
    buffer = io.BytesIO()
    storage = writer._Storage("FloatStorage", "0", numel)
    writer._Pickler(buffer, protocol=2).dump({"conv1.weight": writer._Tensor(storage, shape)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("numel", "shape"),
    [(10**12, (10**6, 10**6)), (10**30, (10**6, 10**6)), (-5, (3,)), (16, (10**10,)), (16, (-3,)), (16, (2**63, 2))],
)
def test_shapes_and_storages_that_cannot_be(numel: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    refused(with_pickle(tmp_path / "a.pt", tensor_pickle(numel, shape)), "copy or download it again")


def test_the_same_tensor_with_true_numbers_is_read(tmp_path: Path) -> None:
    path = with_pickle(tmp_path / "a.pt", tensor_pickle(16, (16,)))
    assert checkpoints.read_tensors(path)["conv1.weight"].shape == (16,)


def test_a_pickle_that_asks_for_a_terabyte(tmp_path: Path) -> None:
    program = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
    refused(with_pickle(tmp_path / "a.pt", program), "copy or download it again")
    refused(with_pickle(tmp_path / "b.pt", b"\x80\x02" + b"(" * (3 << 20) + b"."), r"expected one data\.pkl")


def test_random_damage_is_read_or_refused(tmp_path: Path) -> None:
    """Bytes changed anywhere: a state dict or one CheckpointError, never another exception or a crash."""
    random = Random(0)
    small = {
        key: tensor[:2, ..., :1].clone() if tensor.ndim > 1 else tensor[:2] for key, tensor in tiny.weights().items()
    }
    torch.save(small, tmp_path / "new.pt")
    torch.save(small, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    checkpoints.write_safetensors(tmp_path / "a.safetensors", small)
    outcomes = {"read": 0, "refused": 0}
    for source in sorted(tmp_path.iterdir()) * 80:
        data = bytearray(source.read_bytes())
        for _ in range(random.choice((1, 2, 10))):
            data[random.randrange(random.choice((600, len(data))))] = random.randrange(256)
        path = tmp_path / f"damaged{source.suffix}"
        path.write_bytes(data)
        try:
            total = sum(float(tensor.double().sum()) for tensor in checkpoints.read_state_dict(path).values())
            outcomes["read"] += isinstance(total, float)
        except CheckpointError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def test_a_storage_larger_than_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoints.write_torch(path, tiny.weights())
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, data if entry.filename.endswith(".pkl") else data[: len(data) // 2])
    refused(tmp_path / "b.pt", "copy or download it again|holds less data")


def test_strides_of_zero_do_not_pose_as_a_model(tmp_path: Path) -> None:
    state = {key: torch.zeros(1).expand(tensor.shape) for key, tensor in tiny.weights().items()}
    torch.save(state, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "but the file holds less data")
    torch.save({"conv1.weight": torch.zeros(1).expand(10**9, 3, 10**3, 10**3)}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "but the file holds less data")


def test_tensors_that_are_not_dense(tmp_path: Path) -> None:
    torch.save(tiny.weights() | {"proj": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "expected a dense one|could run code|not written by torch.save")


def safetensors(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


@pytest.mark.parametrize(
    "tensor",
    [
        '{"dtype":"F32","shape":[NaN,3],"data_offsets":[0,12]}',
        '{"dtype":"F32","shape":[-1,3],"data_offsets":[0,12]}',
        '{"dtype":"F32","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,12]}',
        '{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}',
        '{"dtype":"F32","shape":[3],"data_offsets":[0,99999999999]}',
        '{"dtype":"F32","shape":[3],"data_offsets":[12,0]}',
        '{"dtype":"F32","shape":[4],"data_offsets":[0,12]}',
        '{"dtype":"PYTHON","shape":[3],"data_offsets":[0,12]}',
        '{"dtype":"F32","shape":"3","data_offsets":[0,12]}',
        "3",
    ],
)
def test_safetensors_headers_that_cannot_be(tensor: str, tmp_path: Path) -> None:
    refused(
        safetensors(tmp_path / "a.safetensors", f'{{"proj":{tensor}}}'.encode(), bytes(12)), "not a whole safetensors"
    )


def test_safetensors_header_lengths_that_cannot_be(tmp_path: Path) -> None:
    for number, length in enumerate((10 * 2**30, 2**64 - 1, 0, 99)):
        path = safetensors(tmp_path / f"{number}.safetensors", b'{"a":1}', length=length)
        refused(path, "not a whole safetensors")
    path = safetensors(tmp_path / "a.safetensors", b"[" * 100_000)
    refused(path, "not a whole safetensors")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2684685954\n"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (POINTER, "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page"),
        (b"\n  <html lang='en'>", "a web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither a .pt file|not a whole safetensors"),
        (b"PK", "cut or damaged"),
        (b"PK\x03\x04" + bytes(1000), "cut or damaged"),
        (b"\x80\x02", "cut, damaged"),
        (b"{}", "neither a .pt file|not a whole safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "folder/model.safetensors"])
def test_what_is_no_checkpoint_at_all(data: bytes, match: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    refused(path.parent if "/" in name else path, match if name.endswith(".pt") else f"{match}|not a whole safetensors")


def test_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "not a regular file")
    (tmp_path / "b.pt").symlink_to(tmp_path / "gone")
    refused(tmp_path / "b.pt", "no such file")


def shards(folder: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """A sound sharded folder: its index and what the index says."""
    index = write_sharded(folder, tiny.pair(), max_shard_size="1MB")[-1]
    return index, json.loads(index.read_text())


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", ".", "a\\b", "x\0y"])
def test_an_index_that_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    index, content = shards(tmp_path)
    content["weight_map"]["visual.proj"] = name
    index.write_text(json.dumps(content))
    refused(index, "expected a file name without folders")


def test_a_shard_that_is_a_link_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    index, content = shards(folder)
    shard = folder / content["weight_map"]["visual.proj"]
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    refused(index, "leads out of its folder")


def test_shards_that_are_missing_or_cut(tmp_path: Path) -> None:
    index, content = shards(tmp_path)
    shard = tmp_path / content["weight_map"]["visual.proj"]
    data = shard.read_bytes()
    shard.write_bytes(data[:-1000])
    refused(tmp_path, "not a whole safetensors")
    shard.write_bytes(b"")
    refused(tmp_path, "is empty")
    shard.write_bytes(POINTER)
    refused(tmp_path, "Git LFS pointer")
    shard.unlink()
    refused(tmp_path, "the shard is missing")


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', "[" * 100_000, '{"a": NaN}']
)
def test_an_index_that_is_none(index: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    refused(path, "not valid JSON|expected a JSON object|without a weight_map")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    checkpoints.write_torch(path, tiny.weights())

    def forbidden(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        checkpoints.read_state_dict(path)
