"""Pictures of numbers: read as stored, written whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.errors import InputError, MediaError, OutputError, ShapeError
from midsight.images import Limits
from midsight.images.labels import palette, read_numbers, write_depth, write_labels, write_numbers


def test_labels_come_back(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (7, 9))
    write_labels(tmp_path / "a.png", labels)
    found = read_numbers(tmp_path / "a.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels)
    with Image.open(tmp_path / "a.png") as image:
        colours = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colours, np.frombuffer(palette(), np.uint8).reshape(256, 3)[labels])
    assert len({palette()[3 * k : 3 * k + 3] for k in range(256)}) == 256


def test_labels_in_colours_of_ones_own(tmp_path: Path) -> None:
    colours = np.array([[1, 2, 3], [250, 0, 90]], np.uint8)
    write_labels(tmp_path / "a.png", np.array([[0, 1, 1]]), colours)
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.png"), [[0, 1, 1]])
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours[[[0, 1, 1]]])


def test_numbers_of_16_bits_come_back(tmp_path: Path) -> None:
    numbers = np.array([[0, 255], [256, 65535]], np.uint16)
    write_numbers(tmp_path / "a.png", numbers)
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.png"), numbers)


def test_depth_comes_back_in_millimetres(tmp_path: Path) -> None:
    metres = np.array([[0, 0.0014, 3.5], [9.9996, 65.5349, 1000]])
    write_depth(tmp_path / "d.png", metres)
    np.testing.assert_array_equal(read_numbers(tmp_path / "d.png"), [[0, 1, 3500], [10000, 65535, 65535]])


@pytest.mark.parametrize(("mode", "value"), [("L", 200), ("1", 1), ("I;16", 40000), ("P", 17)])
def test_numbers_are_read_as_they_are_stored(tmp_path: Path, mode: str, value: int) -> None:
    image = Image.new(mode, (4, 3), value if mode != "1" else 1)
    if mode == "P":
        image.putpalette(bytes(768))
    exif = Image.Exif()
    exif[0x0112] = 6  # labels are not turned: their picture's pixels are what they belong to
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.png"), np.full((3, 4), value))


def test_what_holds_no_numbers_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    Image.new("L", (4, 4)).save(tmp_path / "lossy.jpg")
    (tmp_path / "cut.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:40])
    for name, message in (
        ("rgb.png", "in colours"),
        ("lossy.jpg", "a JPEG"),
        ("cut.png", "cut"),
        ("no.png", "no such"),
    ):
        with pytest.raises(MediaError, match=message) as raised:
            read_numbers(tmp_path / name)
        assert name in str(raised.value)
    write_labels(tmp_path / "large.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(MediaError, match="the limit is 100"):
        read_numbers(tmp_path / "large.png", limits=Limits(max_pixels=100))


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels from 0 to 256"):
        write_labels(tmp_path / "a.png", np.array([[0, 256]]))
    with pytest.raises(ShapeError):
        write_labels(tmp_path / "a.png", np.zeros((2, 2)))
    with pytest.raises(ShapeError):
        write_depth(tmp_path / "a.png", np.zeros(3))
    with pytest.raises(OutputError):
        write_labels(tmp_path / "no" / "a.png", np.zeros((2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []
