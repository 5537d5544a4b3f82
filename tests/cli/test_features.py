"""`midsight features`: numbers and pictures of several layers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def run(tiny_folder: Path, *args: object) -> Result:
    return CliRunner().invoke(app, ["features", *map(str, args), "--model", str(tiny_folder)])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_maps_are_those_of_the_api(
    tiny_folder: Path, photo: Path, tmp_path: Path, suffix: str, tiny_model: midsight.Perception
) -> None:
    output = tmp_path / f"out{suffix}"
    result = run(tiny_folder, photo, "--layers", "0,-1", "-o", output)
    assert result.exit_code == 0
    assert "layer 3 of 3 (layer_idx 2)" in result.stdout
    found = load_file(output) if suffix == ".safetensors" else dict(np.load(output))
    assert set(found) == {"layer_0", "layer_2"}
    for name, expected in zip(("layer_0", "layer_2"), tiny_model.features(photo, [0, 2]), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_picture_has_a_column_for_each_layer_and_a_line_for_each_frame(tiny_folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    result = run(tiny_folder, CLIP, "--layers", "0,1,2", "--pca", sheet, "--frames", 2, "--image-size", 64)
    assert result.exit_code == 0
    pixels = np.asarray(Image.open(sheet))
    height, width = pixels.shape[:2]
    assert (height, width) == (28 + 2 * 344, 8 + 4 * 344)
    cell = pixels[28 : 28 + 336, 8 + 344 : 8 + 344 + 336]
    assert len(np.unique(cell.reshape(-1, 3), axis=0)) > 20, "a map of 8 x 8 tokens in many colours"


def test_what_cannot_be(tiny_folder: Path, photo: Path, tmp_path: Path) -> None:
    outside = run(tiny_folder, photo, "--layers", "7")
    assert outside.exit_code == 2
    assert "3 blocks" in outside.stderr
    missing = run(tiny_folder, tmp_path / "missing.png")
    assert missing.exit_code == 1
    assert "missing.png" in missing.stderr
    nowhere = run(tiny_folder, photo, "-o", tmp_path / "no" / "out.npz")
    assert nowhere.exit_code == 1
    assert "does not exist" in nowhere.stderr
