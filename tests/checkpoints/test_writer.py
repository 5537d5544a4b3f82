"""Files as the other libraries read them, written whole or not at all, without a copy of the model in memory."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from midsight import checkpoints
from midsight.checkpoints.writer import parse_size, write_sharded
from midsight.errors import CheckpointError, InputError, OutputError
from tests.checkpoints import tiny

E4M3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)  # every value that there is, two NaN among them
ODD = {  # every dtype, views, no elements, no axes
    "half": torch.arange(7, dtype=torch.float16),
    "brain": torch.arange(3, dtype=torch.bfloat16),
    "double": torch.rand(2, 3, dtype=torch.float64),
    "transposed": torch.rand(5, 4).T,
    "slice": torch.rand(9, 4)[3:6],
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(4.6052),
}


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    checkpoints.write_safetensors(tmp_path / "a.safetensors", ODD, metadata={"made_by": "a test"})
    assert tiny.same(load_file(tmp_path / "a.safetensors"), ODD)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "made_by": "a test"}


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_was_written(mmap: bool, tmp_path: Path) -> None:
    checkpoints.write_torch(tmp_path / "a.pt", ODD)
    found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mmap)
    assert list(found) == list(ODD)
    assert tiny.same(found, ODD)
    assert all(tensor.is_contiguous() and tensor.storage_offset() == 0 for tensor in found.values())
    assert all(tensor.data_ptr() % 64 == 0 for tensor in found.values()) or not mmap
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None


def test_cast_on_the_way_leaves_scalars(tmp_path: Path) -> None:
    ours = tiny.pair()
    checkpoints.write_safetensors(tmp_path / "a.safetensors", ours, dtype=torch.float16)
    checkpoints.write_torch(tmp_path / "a.pt", ours, dtype=torch.float16)
    expected = {key: tensor if key == "logit_scale" else tensor.half() for key, tensor in ours.items()}
    assert tiny.same(load_file(tmp_path / "a.safetensors"), expected)
    assert tiny.same(torch.load(tmp_path / "a.pt", weights_only=True), expected)


@pytest.mark.parametrize("write", [checkpoints.write_safetensors, checkpoints.write_torch])
def test_eight_bit_floats_keep_every_value(write: Callable[..., None], tmp_path: Path) -> None:
    tensors, expected = {"table": E4M3.view(16, 16).T, "b": torch.rand(3)}, E4M3.view(16, 16).T.float()
    for dtype in (None, torch.float16, torch.bfloat16, torch.float32):
        write(tmp_path / "a", tensors, dtype=dtype)
        found = checkpoints.read_tensors(tmp_path / "a")["table"]
        kept = torch.float8_e4m3fn if write is checkpoints.write_safetensors else torch.float16
        assert found.dtype == (dtype or kept)
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0, equal_nan=True)
    assert expected.isnan().sum() == 2
    assert expected.nan_to_num().max() == 448


def test_eight_bit_floats_of_torch_save_are_read(tmp_path: Path) -> None:
    torch.save({"table": E4M3}, tmp_path / "a.pt")
    found = checkpoints.read_tensors(tmp_path / "a.pt")["table"]
    assert torch.equal(found.view(torch.uint8), E4M3.view(torch.uint8))


@pytest.mark.parametrize("write", [checkpoints.write_safetensors, checkpoints.write_torch])
def test_what_cannot_be_held_is_an_error_and_the_old_file_stays(write: type, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with pytest.raises(CheckpointError, match=r"big has values up to 1e\+06, too large for torch\.float16"):
        write(path, {"big": torch.tensor([1.0, 1e6])}, dtype=torch.float16)
    with pytest.raises(CheckpointError, match=r"big has values up to 449, too large for torch\.float8_e4m3fn"):
        checkpoints.write_safetensors(path, {"big": torch.tensor([1.0, -449.0])}, dtype=torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match=r"torch\.int64, expected a floating dtype"):
        write(path, {"ids": torch.tensor([1])})
    with pytest.raises(OutputError):
        write(tmp_path / "absent" / "a", {"x": torch.zeros(1)})
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    script = (
        "import resource, signal, sys, torch\n"
        "from midsight import checkpoints, errors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "for write in (checkpoints.write_safetensors, checkpoints.write_torch):\n"
        "    try:\n"
        "        write(sys.argv[1], {'x': torch.zeros(1 << 20)})\n"
        "    except errors.OutputError as error:\n"
        "        assert sys.argv[1] in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_shards_and_what_an_earlier_save_left(tmp_path: Path) -> None:
    ours = tiny.pair()
    many = write_sharded(tmp_path, ours, max_shard_size="500KB")
    few = write_sharded(tmp_path, ours, max_shard_size="1.5MB")
    assert len(many) > len(few) > 2
    assert set(tmp_path.iterdir()) == set(few)
    limit = 1_500_000 + 20_000  # the header comes on top
    assert all(path.stat().st_size <= limit for path in few)
    (tmp_path / "model-of-another.safetensors").write_bytes(b"not ours")
    single = write_sharded(tmp_path, ours)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model-of-another.safetensors"}
    assert tiny.same(load_file(single[0]), ours)


@pytest.mark.parametrize(("size", "bytes_"), [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), (1234, 1234), ("1.5k", 1500)])
def test_sizes(size: int | str, bytes_: int) -> None:
    assert parse_size(size) == bytes_


@pytest.mark.parametrize("size", ["", "0", "-1GB", "5 apples", "1e9", 0])
def test_sizes_that_cannot_be(size: int | str) -> None:
    with pytest.raises(InputError, match="5GB or 500MB"):
        parse_size(size)


MEASURE = """
import sys, threading, time
import torch
from midsight import checkpoints

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)

torch.set_num_threads(1)
before = anonymous()
thread = threading.Thread(target=watch)
thread.start()
checkpoints.convert(sys.argv[1], sys.argv[2], sys.argv[3])
done = True
thread.join()
print(max(0, peak - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by Linux's /proc")
@pytest.mark.parametrize(
    ("source", "target", "to"),
    [("a.pt", "timm", "timm"), ("a.safetensors", "b.pt", "official"), ("a.safetensors", "open_clip", "open_clip")],
)
def test_converting_holds_no_copy_of_the_model(source: str, target: str, to: str, tmp_path: Path) -> None:
    """A pair of 278 MB (PE-Core-T16-384's shapes): a conversion takes under 5 % of it in memory of its own."""
    from midsight.configs import MODELS

    model = MODELS["PE-Core-T16-384"]
    shapes = checkpoints.expected_shapes(model.vision, model.text)
    write = checkpoints.write_torch if source.endswith(".pt") else checkpoints.write_safetensors
    write(tmp_path / source, {key: torch.rand(shape) for key, shape in shapes.items()})
    size = (tmp_path / source).stat().st_size
    assert size > 270e6
    arguments = [sys.executable, "-c", MEASURE, str(tmp_path / source), str(tmp_path / target), to]
    done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 0.05 * size
    for path in tmp_path.rglob("*"):  # keeps the test folder small
        path.unlink() if path.is_file() else None
