"""DAVIS from its folders: reading, tracking, figures and what is written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import midsight
from midsight.api import dense_encoder
from midsight.data.davis import read_davis
from midsight.errors import InputError, MediaError
from midsight.evaluate.metrics import jf
from midsight.evaluate.tracking import SequenceFigures, evaluate_davis, summary, table
from midsight.images.labels import palette, read_numbers, write_labels
from midsight.tasks.features import DenseEncoder
from midsight.tasks.tracking import PropagationConfig, TrackingConfig

CONFIG = TrackingConfig(long_side=64, propagation=PropagationConfig(radius=3))


@pytest.fixture(scope="module")
def encoder(dense_folder: Path) -> DenseEncoder:
    return dense_encoder(midsight.load(dense_folder, device="cpu"), [1])


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of five frames, one of them with two objects, and a third that is in no list."""
    dice = np.random.default_rng(0)
    for name, objects in (("bear", 1), ("dance", 2), ("unlisted", 1)):
        images, maps = tmp_path / "JPEGImages/480p" / name, tmp_path / "Annotations/480p" / name
        images.mkdir(parents=True)
        maps.mkdir(parents=True)
        for t in range(5):
            labels = np.zeros((48, 80), np.uint8)
            labels[8 + t : 28 + t, 10:34] = 1
            if objects == 2:
                labels[20:40, 50 - t : 70 - t] = 2
            pixels = np.array([(200, 200, 60), (30, 60, 200), (200, 30, 30)])[labels] + dice.integers(
                -5, 6, (48, 80, 3)
            )
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"{t:05}.jpg", quality=95)
            write_labels(maps / f"{t:05}.png", labels)
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("dance\nbear\n")
    return tmp_path


def test_a_split_is_tracked_measured_and_written(davis: Path, encoder: DenseEncoder, tmp_path: Path) -> None:
    sequences = read_davis(davis)
    assert [sequence.name for sequence in sequences] == ["dance", "bear"]
    out = tmp_path / "predicted"
    figures = list(evaluate_davis(encoder, sequences, CONFIG, out))
    for sequence, found in zip(sequences, figures, strict=True):
        written = np.stack([read_numbers(out / sequence.name / f"{t:05}.png") for t in range(5)])
        np.testing.assert_array_equal(written[0], sequence.truth()[0])
        assert jf(written, sequence.truth()) == pytest.approx(found.mean())
        assert 0.5 < found.mean()["JF"] < 1
    assert list(figures[0].objects) == [1, 2]
    with Image.open(out / "bear" / "00001.png") as image:
        assert image.mode == "P"
        assert bytes(image.getpalette() or b"")[:9] == palette()[:9] == bytes((0, 0, 0, 128, 0, 0, 0, 128, 0))


def test_the_mean_is_over_objects_and_not_over_sequences() -> None:
    figures = [SequenceFigures("a", 4, {1: (1.0, 0.5)}), SequenceFigures("b", 6, {1: (0.0, 0.0), 2: (0.2, 0.4)})]
    assert summary(figures) == pytest.approx({"J": 0.4, "F": 0.3, "JF": 0.35})
    rows = table(figures)
    assert rows[1] == ("b", 6, 2, pytest.approx(0.15), pytest.approx(0.1), pytest.approx(0.2))
    assert rows[-1] == ("mean over objects", 10, 3, *map(pytest.approx, (0.35, 0.4, 0.3)))
    with pytest.raises(InputError):
        summary([])


def test_what_is_not_davis_is_told(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ImageSets.2017.train\.txt: not there"):
        read_davis(davis, "train")
    with pytest.raises(InputError, match="JPEGImages"):
        read_davis(davis, resolution="Full-Resolution")
    (davis / "ImageSets/2017/empty.txt").write_text("\n")
    with pytest.raises(InputError, match="names no sequence"):
        read_davis(davis, "empty")
    (davis / "ImageSets/2017/other.txt").write_text("bear\ngoat\n")
    with pytest.raises(InputError, match="goat: no frames"):
        read_davis(davis, "other")


def test_a_video_that_ends_early_is_told(davis: Path) -> None:
    (davis / "JPEGImages/480p/bear/00004.jpg").unlink()
    with pytest.raises(InputError, match="bear: 4 frames and 5 annotations.*'00004'"):
        read_davis(davis)


def test_bad_files_of_a_sequence_are_named(davis: Path, encoder: DenseEncoder) -> None:
    (davis / "ImageSets/2017/bear.txt").write_text("bear")
    (davis / "ImageSets/2017/dance.txt").write_text("dance")
    broken = davis / "JPEGImages/480p/bear/00003.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(MediaError, match=r"bear.00003\.jpg"):
        list(evaluate_davis(encoder, read_davis(davis, "bear"), CONFIG))
    write_labels(davis / "Annotations/480p/dance/00002.png", np.ones((20, 20), np.uint8))
    with pytest.raises(MediaError, match=r"00002\.png: 20x20 pixels, but 00000\.png has 80x48"):
        list(evaluate_davis(encoder, read_davis(davis, "dance"), CONFIG))
    write_labels(davis / "Annotations/480p/dance/00000.png", np.zeros((48, 80), np.uint8))
    with pytest.raises(InputError, match=r"00000\.png: has no object"):
        list(evaluate_davis(encoder, read_davis(davis, "dance"), CONFIG))
