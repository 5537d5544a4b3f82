"""`midsight track`: label maps of every frame, and what is told of bad ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.api import dense_encoder
from midsight.cli.main import app
from midsight.images.labels import read_numbers, write_labels
from midsight.tasks.tracking import TrackingConfig, track


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for t in range(4):
        pixels = np.random.default_rng(t).integers(180, 200, (48, 64, 3), dtype=np.uint8)
        pixels[8:32, 8 + 4 * t : 36 + 4 * t] //= 4
        Image.fromarray(pixels).save(folder / f"{t}.png")
    labels = np.zeros((48, 64), np.uint8)
    labels[8:32, 8:36] = 5
    write_labels(tmp_path / "first.png", labels)
    return folder


def run(frames: Path, folder: Path, *arguments: object) -> Result:
    given = [
        frames,
        "--mask",
        frames.parent / "first.png",
        "-o",
        frames.parent / "out",
        "--model",
        folder,
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(app, ["track", *map(str, [*given, *arguments])])


def test_label_maps_are_those_of_the_library(frames: Path, dense_folder: Path) -> None:
    result = run(frames, dense_folder, "--long-side", 64, "--layer", 1)
    assert result.exit_code == 0, result.stderr
    assert "wrote 4 label maps" in result.stderr
    encoder = dense_encoder(midsight.load(dense_folder, device="cpu"), [1])
    for found in track(frames, frames.parent / "first.png", encoder, TrackingConfig(long_side=64)):
        written = read_numbers(frames.parent / "out" / f"{found.index:05}.png")
        np.testing.assert_array_equal(written, found.unwrap())
        assert set(np.unique(written)) == {0, 5}


def test_a_broken_frame_is_told_and_left_out(frames: Path, dense_folder: Path) -> None:
    (frames / "2.png").write_bytes(b"junk")
    result = run(frames, dense_folder, "--long-side", 64)
    assert result.exit_code == 1
    assert "frame 2: " in result.stderr
    assert sorted(path.name for path in (frames.parent / "out").iterdir()) == ["00000.png", "00001.png", "00003.png"]


def test_wrong_usage_is_told(frames: Path, dense_folder: Path) -> None:
    unknown = run(frames, dense_folder, "--protocol", "sam")
    assert (unknown.exit_code, "dino or pe" in unknown.stderr) == (2, True)
    write_labels(frames.parent / "first.png", np.zeros((48, 64), np.uint8))
    empty = run(frames, dense_folder)
    assert empty.exit_code == 2
    assert "has no object" in empty.stderr
    assert not (frames.parent / "out").exists()
