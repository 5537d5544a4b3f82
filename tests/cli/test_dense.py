"""`midsight detect`, `segment` and `depth`: results of the library, wrong usage in words, Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from midsight import video
from midsight.api import open_depth, open_detector, open_segmenter
from midsight.cli.main import app
from midsight.images.labels import read_numbers
from tests import dense_heads

MEDIA = Path(__file__).parents[1] / "media"
CAMERA = "camera:lavfi:testsrc=size=64x48:rate=20,realtime"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures whose sides are no multiples of the patch or the window."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(45, 70), (33, 19)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def options(segment_head: Path, depth_head: Path, detector_folder: Path, dense_folder: Path) -> dict[str, list[str]]:
    """What each command needs to find its model."""
    on = ["--model", str(dense_folder), "--device", "cpu"]
    return {
        "segment": ["--head", str(segment_head), *on],
        "depth": ["--head", str(depth_head), *on],
        "detect": ["--detector", str(detector_folder), "--device", "cpu"],
    }


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_segment(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    out = tmp_path / "out"
    result = run("segment", photos, MEDIA / "one_frame.mp4", "-o", out, "--masks", *options["segment"])
    assert result.exit_code == 0, result.stderr
    assert not result.stdout
    assert "out: 2 pictures, 1 video; 3 frames in " in result.stderr
    assert "frames/s" in result.stderr
    opened = open_segmenter(options["segment"][1], options["segment"][3], device="cpu")
    for name in ("0", "1"):
        labels = read_numbers(out / f"labels/{name}.png")
        np.testing.assert_array_equal(labels, opened.predict(photos / f"{name}.png"))
    assert len(np.unique(labels)) > 1
    assert (out / "labels/one_frame/000000.png").is_file()
    assert video.probe(out / "overlays/one_frame.mp4").frames == 1
    names = [entry["name"] for entry in json.loads((out / "classes.json").read_text())]
    assert names == [*dense_heads.NAMES, "class 4"]


def test_depth(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    out = tmp_path / "out"
    result = run("depth", photos, MEDIA / "one_frame.mp4", "-o", out, "--maps", "--far", 8, *options["depth"])
    assert result.exit_code == 0, result.stderr
    metres = open_depth(options["depth"][1], options["depth"][3], device="cpu").predict(photos / "0.png")
    np.testing.assert_allclose(read_numbers(out / "depth/0.png"), metres * 1000, atol=0.51)
    assert (out / "depth/one_frame/000000.png").is_file()
    assert (out / "colours/1.png").is_file()


def test_detect(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    out = tmp_path / "out"
    arguments = ("--threshold", 0.5, "--format", "coco, yolo,label-studio", *options["detect"])
    result = run("detect", photos, "-o", out, *arguments)
    assert result.exit_code == 0, result.stderr
    content = json.loads((out / "detections.json").read_text())
    found = open_detector(options["detect"][1], threshold=0.5, device="cpu").predict(photos / "0.png")
    assert sum(entry["image_id"] == 1 for entry in content["annotations"]) == len(found["labels"]) > 0
    for name in ("overlays/1.png", "labels/0.txt", "images/0.png", "data.yaml", "label_studio.json"):
        assert (out / name).is_file(), name


def test_data_only(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    for command, folders in (("segment", ["labels"]), ("depth", ["depth"]), ("detect", [])):
        out = tmp_path / command
        assert run(command, photos, "-o", out, "--no-overlay", *options[command]).exit_code == 0
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [".midsight", *folders]


def test_going_on_and_beginning_anew(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    command = ("segment", photos, "-o", tmp_path / "out", *options["segment"])
    assert run(*command).exit_code == 0
    again = run(*command)
    assert (again.exit_code, again.stderr) == (0, "going on: 2 of 2 inputs were done before\n")
    other = run(*command, "--size", 48)
    assert other.exit_code == 2
    assert "holds results of other settings (size None, now 48)" in other.stderr
    anew = run(*command, "--size", 48, "--restart")
    assert anew.exit_code == 0
    assert "2 pictures" in anew.stderr


def test_bad_files_are_told_and_the_others_are_done(
    photos: Path, tmp_path: Path, options: dict[str, list[str]]
) -> None:
    (photos / "broken.jpg").write_bytes(b"junk")
    shutil.copy(MEDIA / "cut.mp4", photos)
    Image.new("RGB", (200_000, 1)).save(photos / "narrow.png")
    told = run("segment", photos / "narrow.png", "-o", tmp_path / "narrow", *options["segment"])
    assert (told.exit_code, "narrow.png: 200000x1 would become" in told.stderr) == (1, True)
    (photos / "narrow.png").unlink()
    result = run("depth", photos, "-o", tmp_path / "out", "--every", 10, *options["depth"])
    assert result.exit_code == 1
    assert "broken.jpg" in result.stderr
    assert "1 of 4 could not be read" in result.stderr
    assert "cut.mp4: cut or broken; the results are of the part that can be read" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out/colours").iterdir()) == ["0.png", "1.png", "cut.mp4"]


def test_wrong_usage_is_told_before_anything_is_written(
    photos: Path, tmp_path: Path, options: dict[str, list[str]], tiny_folder: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    out = tmp_path / "out"
    head = options["segment"][1]
    for arguments, told in (
        (("segment", tmp_path / "empty", "-o", out, *options["segment"]), "no pictures or videos in this folder"),
        (("segment", photos, "-o", tmp_path / "file", *options["segment"]), "is a file. Name a folder"),
        (("segment", photos, "-o", photos, *options["segment"]), "is one of the inputs"),
        (("segment", photos, "-o", out, "--seconds", 3, *options["segment"]), "no input is a camera"),
        (("segment", photos, "-o", out, "--head", head), "Give the encoder with --model"),
        (("depth", photos, "-o", out, "--head", head, "--model", tiny_folder), "a head for segmentation"),
        (("segment", photos, "-o", out, "--head", tmp_path), "Expected the folder of a trained head"),
        (("segment", photos, "-o", out, "--head", head, "--model", tiny_folder), "but the encoder is tiny"),
        (("depth", photos, "-o", out, "--near", 3, "--far", 2, *options["depth"]), "far beyond it"),
        (("detect", photos, "-o", out, "--detector", "mask_rcnn"), "there is no detector named 'mask_rcnn'"),
        (("detect", photos, "-o", out, "--format", "voc", *options["detect"]), "there is no format 'voc'"),
        (("detect", photos, "-o", out, "--threshold", 2, *options["detect"]), "less than or equal to 1"),
        (("detect", photos), "--out"),
        (("segment", MEDIA / "one_frame.mp4", "-o", out, "--no-overlay", *options["segment"]), "nothing would be"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.stderr)
        assert told in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
    assert not out.exists()


def test_a_camera_for_some_seconds_and_one_that_is_not_there(tmp_path: Path, options: dict[str, list[str]]) -> None:
    out = tmp_path / "out"
    missing = run("detect", "camera:v4l2:/dev/video987", "-o", out, *options["detect"])
    assert missing.exit_code == 1
    assert "there is no camera /dev/video987" in missing.stderr
    result = run("segment", CAMERA, "-o", tmp_path / "other", "--seconds", 0.5, *options["segment"])
    assert result.exit_code == 0, result.stderr
    assert "1 camera;" in result.stderr
    (recording,) = (tmp_path / "other/overlays").iterdir()
    assert video.probe(recording).duration == pytest.approx(0.5, abs=0.2)


# The command itself, slowed down, so that a test can stop it in the middle.
SLOW = """
import os, time
from midsight.tasks.segmentation import Segmenter
from midsight.cli.main import main
call = Segmenter.__call__
def slow(self, source):
    print("looked", flush=True)
    time.sleep(float(os.environ["PAUSE"]))
    return call(self, source)
Segmenter.__call__ = slow
main()
"""


def start(*arguments: object, pause: float = 0.1) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLOW, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PAUSE": str(pause)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def interrupt(process: "subprocess.Popen[Any]", looks: int) -> tuple[int, str]:
    """Ctrl-C after so many frames."""
    assert process.stdout is not None
    for _ in range(looks):
        assert process.stdout.readline() == "looked\n", process.communicate()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def test_ctrl_c_keeps_what_is_done(photos: Path, tmp_path: Path, options: dict[str, list[str]]) -> None:
    shutil.copy(MEDIA / "b_frames.mp4", photos)
    out = tmp_path / "out"
    code, told = interrupt(start("segment", photos, "-o", out, *options["segment"]), looks=8)
    assert code == 130, told
    assert "stopped: 2 of 3 inputs are done and kept" in told
    assert "Traceback" not in told
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["0.png", "1.png"]
    again = run("segment", photos, "-o", out, "--every", 1, *options["segment"])
    assert again.exit_code == 0
    assert "going on: 2 of 3" in again.stderr
    assert (out / "overlays/b_frames.mp4").is_file()


def test_ctrl_c_ends_a_recording_well(tmp_path: Path, options: dict[str, list[str]]) -> None:
    out = tmp_path / "out"
    code, told = interrupt(start("segment", CAMERA, "-o", out, *options["segment"]), looks=5)
    assert code == 0, told
    assert "Ctrl-C ends the recording" in told
    assert "frames were passed over" in told  # 20 a second come, fewer than 10 are looked at
    (recording,) = (out / "overlays").iterdir()
    assert video.probe(recording).frames == 5


def test_ctrl_c_twice_stops_at_once(tmp_path: Path, options: dict[str, list[str]]) -> None:
    process = start("segment", CAMERA, "-o", tmp_path / "out", *options["segment"], pause=30)
    assert process.stdout is not None
    assert process.stdout.readline() == "looked\n", process.communicate()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals at the same time would be one
    code, told = interrupt(process, looks=0)
    assert code == 130, told
    assert "stopped: 0 of 1 inputs are done" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out/overlays").iterdir())
