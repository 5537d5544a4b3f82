"""Files read by a child process, by the right child and by one that is made to hang or die."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import midsight
from midsight.configs import PreprocessConfig
from midsight.library.jobs import decoder
from midsight.library.jobs.decoder import Decoded, Decoder, Reading
from midsight.transforms.image import from_config

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))
CONFIG = PreprocessConfig(image_size=32)
# The child itself, with pictures that do to it what their names say.
FAULTY = """
import os, signal, sys, time
from pathlib import Path
from midsight.library.jobs import child
from midsight.transforms import image
load = image.load_image
def faulty(source, **options):
    name = Path(source).name if isinstance(source, Path) else ""
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("once") and not Path(str(source) + ".seen").exists():
        Path(str(source) + ".seen").touch()
        os._exit(3)
    return load(source, **options)
image.load_image = faulty
child.main()
"""


@pytest.fixture
def reader() -> Iterator[Decoder]:
    made = Decoder(Reading(CONFIG, num_frames=2, segment_seconds=2.0))
    yield made
    made.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "good.png")
    return tmp_path / "good.png"


def pixels(found: Decoded) -> Any:
    assert found.pixels is not None
    return np.frombuffer(found.pixels, np.uint8).reshape(found.frames, 3, 32, 32)


def test_pixels_are_those_of_the_transform(reader: Decoder, picture: Path) -> None:
    expected = from_config(CONFIG).pixels(picture).numpy()
    assert expected.std() > 10
    for source in (str(picture), picture.read_bytes()):
        (found,) = reader.read("good", source, video=False)
        np.testing.assert_array_equal(pixels(found), expected[None])
        assert (found.start, found.end, found.error) == (None, None, None)


def test_segments_of_a_video(reader: Decoder) -> None:
    found = list(reader.read("clip", str(CLIP), video=True))
    clips = list(midsight.video.segments(CLIP, seconds=2.0, num_frames=2))
    assert [(one.start, one.end) for one in found] == [(clip.start, clip.end) for clip in clips]
    expected = from_config(CONFIG).pixels(clips[1].frames[1]).numpy()
    np.testing.assert_array_equal(pixels(found[1])[1], expected)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_errors_name_the_file_as_it_was_given(reader: Decoder, tmp_path: Path, as_bytes: bool) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    (found,) = reader.read("s3://b/x.png", broken.read_bytes() if as_bytes else str(broken), video=False)
    assert found.error == "s3://b/x.png: not a picture in any format that Pillow knows, or cut short."
    assert found.pixels is None


def test_a_child_that_hangs_or_dies_costs_its_file(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "COMMAND", (sys.executable, "-c", FAULTY))
    reader = Decoder(Reading(CONFIG, file_seconds=1.0))
    names = ("hang.png", "kill.png", "once.png", "good2.png")
    for name in names:
        (picture.parent / name).write_bytes(picture.read_bytes())
    found = {name: next(reader.read(name, str(picture.parent / name), video=False)) for name in names}
    reader.close()
    assert found["hang.png"].error == "hang.png: took longer than 1 s to decode."
    assert found["kill.png"].error == "kill.png: its decoder was killed by SIGSEGV."
    expected = from_config(CONFIG).pixels(picture).numpy()[None]
    for name in ("once.png", "good2.png"):  # a death that does not come again is not the file's fault
        np.testing.assert_array_equal(pixels(found[name]), expected)


def test_a_video_that_is_left_in_the_middle(reader: Decoder, picture: Path) -> None:
    segments = reader.read("clip", str(CLIP), video=True)
    next(segments)
    segments.close()  # type: ignore[attr-defined]  # a generator
    (found,) = reader.read("good", str(picture), video=False)
    assert (found.frames, found.start) == (1, None)


def test_a_child_ends_with_its_parent(reader: Decoder, picture: Path) -> None:
    list(reader.read("good", str(picture), video=False))
    child = reader._child
    assert child is not None
    child._connection.close()  # as the kernel does for a parent that was killed
    deadline = time.monotonic() + 10
    while child._process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child._process.poll() == 0
