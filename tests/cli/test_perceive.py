"""The shipped heads at work: `midsight perceive`, and `detect`, `segment` and `depth` without a head of one's own."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from midsight import video
from midsight.api.perceive import open_perceiver
from midsight.cli.main import app
from midsight.data.scenes.folders import CLASSES
from midsight.data.scenes.groups import NAMES
from midsight.images.labels import read_numbers

CAT = Path(str(files("midsight"))) / "assets/demo/cat.jpg"
CLIP = Path(__file__).parents[1] / "media" / "one_frame.mp4"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_panels_of_pictures_and_videos(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    result = run("perceive", CAT, CLIP, "-o", out, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert "frames/s" in result.stderr
    with Image.open(CAT) as picture, Image.open(out / "panels/cat.png") as panels:
        assert panels.size == (2 * picture.width, 2 * picture.height)
        corner = np.asarray(panels.convert("RGB"))[: picture.height, : picture.width]
        np.testing.assert_array_equal(corner, np.asarray(picture.convert("RGB")))
    assert video.probe(out / "panels/one_frame.mp4").frames == video.probe(CLIP).frames
    again = run("perceive", CAT, CLIP, "-o", out, "--device", "cpu")
    assert "2 of 2 inputs were done before" in again.stderr


def test_names_and_what_is_told(tmp_path: Path) -> None:
    opened = open_perceiver(device="cpu")
    assert (opened.names, opened.classes) == (NAMES, CLASSES)
    found = opened.predict(CAT)
    assert int(found.classes.max()) < len(CLASSES)
    assert 0 < found.metres.min() < found.metres.max() <= opened.farthest
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(CAT.read_bytes()[:200])
    result = run("perceive", broken, CAT, "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    assert "broken.jpg" in result.stderr
    assert (tmp_path / "out/panels/cat.png").is_file()
    result = run("perceive", CAT, "-o", tmp_path / "other", "--heads", tmp_path)
    assert result.exit_code == 2 or result.exit_code == 1
    assert "Expected the folder of a trained head" in result.stderr


@pytest.mark.parametrize("command", ["detect", "segment", "depth"])
def test_without_a_head_of_ones_own(command: str, tmp_path: Path) -> None:
    result = run(command, CAT, "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    checks: dict[str, Any] = {"detect": known_categories, "segment": known_classes, "depth": near_things}
    checks[command](tmp_path / "out")


def known_categories(out: Path) -> None:
    found = json.loads((out / "detections.json").read_text())
    assert [entry["name"] for entry in found["categories"]] == list(NAMES)


def known_classes(out: Path) -> None:
    assert [entry["name"] for entry in json.loads((out / "classes.json").read_text())] == list(CLASSES)
    assert int(read_numbers(out / "labels/cat.png").max()) < len(CLASSES)


def near_things(out: Path) -> None:
    metres = read_numbers(out / "depth/cat.png") / 1000
    assert 0 < metres.min() < metres.max() <= 20
