"""`midsight embed`, with real kills, a real full disk, and everything that may be in a folder."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from midsight.library.embed import partial_folder

COUNT = 60
# The command itself, in parts of a few rows and at a pace that a test can stop in the middle.
PACED = """
import sys, time
from midsight.api import Perception
from midsight.library import embed
from midsight.cli.main import main
embed.PART_ROWS = 4
encode = Perception._encode
def slow(self, images):
    time.sleep({pause})
    return encode(self, images)
Perception._encode = slow
main()
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures, the fifth one broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    (folder / "04.png").write_bytes(b"broken")
    return folder


def run(tiny_folder: Path, *args: object) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, args), "--model", str(tiny_folder), "--device", "cpu"])


def start(tiny_folder: Path, *args: object, pause: float = 0.15, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PACED.format(pause=pause), "embed", *map(str, args)]
    command += ["--model", str(tiny_folder), "--device", "cpu", "--batch-size", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for_parts(process: "subprocess.Popen[str]", output: Path, parts: int) -> None:
    """Until the journal names so many parts; the job is then in the middle."""
    journal = partial_folder(output) / "journal.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if journal.exists() and journal.read_text().count("part-") >= parts:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"the job never came to {parts} parts: {process.communicate()}")


def rows(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return found


def test_parquet(tiny_folder: Path, photos: Path, tmp_path: Path, tiny_model: midsight.Perception) -> None:
    output = tmp_path / "out.parquet"
    result = run(tiny_folder, photos, "-o", output)
    assert result.exit_code == 1, "one file is broken"
    assert not result.stdout
    assert "04.png" in result.stderr
    assert f"1 of {COUNT} could not be read" in result.stderr
    assert f"{COUNT - 1} embeddings of 32 dimensions" in result.stderr
    found = rows(output)
    paths = sorted(photos.iterdir())
    assert [row["path"] for row in found] == list(map(str, paths))
    good = [row for row in found if row["error"] is None]
    expected = tiny_model.embed_images([path for path in paths if path.name != "04.png"])
    np.testing.assert_allclose(np.array([row["embedding"] for row in good], np.float32), expected, atol=1e-6)
    assert pq.read_schema(output).metadata[b"identity"].decode() == tiny_model.identity


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_matrices(tiny_folder: Path, photos: Path, tmp_path: Path, suffix: str) -> None:
    (photos / "04.png").unlink()
    output = tmp_path / f"out{suffix}"
    result = run(tiny_folder, photos, "-o", output, "--layer", -2)
    assert result.exit_code == 0
    beside = json.loads((tmp_path / f"out{suffix}.json").read_text())
    assert len(beside["rows"]) == COUNT - 1
    assert beside["layer"] == "1"
    assert beside["identity"] == midsight.load(tiny_folder, layer=1).identity
    assert output.stat().st_size > 4 * 48 * (COUNT - 1)


def test_killed_and_started_again(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run(tiny_folder, photos, "-o", whole, "--batch-size", 1)
    for parts in (2, 5):
        process = start(tiny_folder, photos, "-o", output)
        wait_for_parts(process, output, parts)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not output.exists()
    process = start(tiny_folder, photos, "-o", output, pause=0)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    done = int(stderr.split("going on: ")[1].split()[0])
    assert 20 <= done < COUNT
    assert rows(output) == rows(whole)
    assert not partial_folder(output).exists()


def test_ctrl_c_and_the_same_command_again(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run(tiny_folder, photos, "-o", whole, "--batch-size", 1)
    process = start(tiny_folder, photos, "-o", output)
    wait_for_parts(process, output, 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in stderr
    assert "Traceback" not in stderr
    assert str(partial_folder(output)) in stderr.replace("\n", "")
    assert not output.exists()
    result = run(tiny_folder, photos, "-o", output, "--batch-size", 1)
    assert "going on: " in result.stderr
    assert rows(output) == rows(whole)


def test_another_command_refuses_unfinished_work(
    tiny_folder: Path, photos: Path, tmp_path: Path, tiny_model: midsight.Perception
) -> None:
    output = tmp_path / "out.parquet"
    process = start(tiny_folder, photos, "-o", output)
    wait_for_parts(process, output, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for change, message in ((("--layer", "0"), "another model"), (("--frames", "3"), "num_frames 8, now 3")):
        result = run(tiny_folder, photos, "-o", output, *change)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "--restart" in result.stderr
    (photos / "new.png").write_bytes((photos / "00.png").read_bytes())
    result = run(tiny_folder, photos, "-o", output)
    assert result.exit_code == 2
    assert f"other inputs ({COUNT} files, now {COUNT + 1}" in result.stderr
    result = run(tiny_folder, photos, "-o", output, "--restart")
    assert result.exit_code == 1
    assert len(rows(output)) == COUNT + 1


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    """A full disk: a tiny file system where we may mount one, else a limit on file sizes; gives options for Popen."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 8, size // 8))}
        return
    try:
        yield {}
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_leaves_the_old_output(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32768) as options:
        output = tmp_path / "disk" / "out.npy"
        output.write_bytes(b"old")
        beside = tmp_path / "disk" / "out.npy.json"
        beside.write_bytes(b"old too")
        process = start(tiny_folder, photos, "-o", output, pause=0, **options)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "error: " in stderr
        assert "could not be written" in stderr or "cannot be written" in stderr
        assert "Traceback" not in stderr
        assert (output.read_bytes(), beside.read_bytes()) == (b"old", b"old too")


def test_no_right_to_write_and_no_folder(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    result = run(tiny_folder, photos, "-o", tmp_path / "no" / "out.npy")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_control_characters_in_names(tiny_folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a\x1b[2J\n.png"
    odd.write_bytes(b"broken")
    result = run(tiny_folder, odd, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert rows(tmp_path / "out.parquet")[0]["path"] == os.fspath(odd)


def test_segments(tiny_folder: Path, tmp_path: Path) -> None:
    clip = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))
    seconds = midsight.video.probe(clip).duration
    output = tmp_path / "out.parquet"
    result = run(tiny_folder, clip, "-o", output, "--segments", seconds / 2, "--frames", 2)
    assert result.exit_code == 0
    assert [(row["path"], row["start"]) for row in rows(output)] == [
        (str(clip), 0), (str(clip), pytest.approx(seconds / 2))
    ]  # fmt: skip
