"""Features that are kept: computed once, bounded, and never those of another picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import midsight
from midsight.api import dense_encoder
from midsight.data.segmentation import LabelConfig, SegmentationSet, mask_folders
from midsight.images.labels import nearest, write_labels
from midsight.tasks.features import DenseEncoder
from midsight.train.cache import Sample, Samples


@pytest.fixture
def pictures(tmp_path: Path) -> SegmentationSet:
    dice = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for k in range(4):
        pixels = dice.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
        write_labels(tmp_path / "masks" / f"{k}.png", pixels[..., 0] // 64)
    return mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(4))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows by one for each pass of the encoder."""
    seen: list[int] = []
    call = DenseEncoder.__call__

    def counted(self: DenseEncoder, images: Tensor) -> list[Tensor]:
        seen.append(len(images))
        return call(self, images)

    monkeypatch.setattr(DenseEncoder, "__call__", counted)
    return seen


@pytest.fixture(scope="module")
def encoder(dense_folder: Path) -> DenseEncoder:
    return dense_encoder(midsight.load(dense_folder, device="cpu"), [0, 2])


def taken(samples: Samples, index: int) -> Sample:
    sample = samples.get(index)
    assert sample is not None
    return sample


def equal(a: Sample, b: Sample) -> bool:
    maps = all(torch.equal(x, y) for x, y in zip(a.maps, b.maps, strict=True))
    return maps and torch.equal(a.target, b.target)


def test_features_are_computed_once(
    pictures: SegmentationSet, encoder: DenseEncoder, passes: list[int], tmp_path: Path
) -> None:
    samples = Samples(pictures, encoder, 32, tmp_path / "kept", 1 << 30)
    first = [taken(samples, index) for index in range(4)]
    assert len(passes) == 4
    again = Samples(pictures, encoder, 32, tmp_path / "kept", 1 << 30)
    assert all(equal(taken(again, index), first[index]) for index in range(4))
    assert len(passes) == 4
    image, labels = pictures.read(2)
    expected = encoder(encoder.images(image, 32, 32)[None])
    torch.testing.assert_close(first[2].maps, [found[0] for found in expected])
    small = np.asarray(Image.fromarray(labels).resize((32, 32), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(first[2].target.numpy(), small)


def test_what_is_kept_is_bounded(
    pictures: SegmentationSet, encoder: DenseEncoder, passes: list[int], tmp_path: Path
) -> None:
    free = Samples(pictures, encoder, 32, tmp_path / "none", 0)
    expected = [taken(free, index) for index in range(4)]
    assert not (tmp_path / "none").exists()
    one = 2 * 48 * 16 * 4 + 32 * 32 + 400  # two maps, a target, a header
    limit = 2 * one
    for _ in range(2):
        samples = Samples(pictures, encoder, 32, tmp_path / "some", limit)
        assert all(equal(taken(samples, index), expected[index]) for index in range(4))
    files = list((tmp_path / "some").iterdir())
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) <= limit
    assert len(passes) == 4 + 4 + 2


def test_other_pictures_targets_sizes_and_layers_are_computed_anew(
    pictures: SegmentationSet, encoder: DenseEncoder, dense_folder: Path, passes: list[int], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    first = taken(Samples(pictures, encoder, 32, kept, 1 << 30), 0)
    write_labels(pictures.pairs[0].target, np.zeros((40, 56), np.uint8))
    changed = taken(Samples(pictures, encoder, 32, kept, 1 << 30), 0)
    assert torch.equal(changed.maps[0], first.maps[0])
    assert changed.target.max() == 0
    assert taken(Samples(pictures, encoder, 40, kept, 1 << 30), 0).maps[0].shape == (48, 5, 5)
    other = dense_encoder(midsight.load(dense_folder, device="cpu"), [1, 2])
    assert not torch.equal(taken(Samples(pictures, other, 32, kept, 1 << 30), 0).maps[0], first.maps[0])
    shifted = SegmentationSet(pictures.pairs, LabelConfig(4, zero_is_void=True))
    assert taken(Samples(shifted, encoder, 32, kept, 1 << 30), 0).target.min() == 255
    assert len(passes) == 5


def test_a_damaged_file_is_computed_anew(
    pictures: SegmentationSet, encoder: DenseEncoder, passes: list[int], tmp_path: Path
) -> None:
    samples = Samples(pictures, encoder, 32, tmp_path / "kept", 1 << 30)
    first = taken(samples, 0)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert equal(taken(samples, 0), first)
    assert equal(taken(samples, 0), first)
    assert len(passes) == 2


def test_a_disk_that_takes_no_more_is_told_and_does_not_stop(
    pictures: SegmentationSet, encoder: DenseEncoder, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    samples = Samples(pictures, encoder, 32, tmp_path / "kept", 1 << 30)
    with pytest.warns(UserWarning, match="features are no longer kept"):
        first = taken(samples, 0)
    assert equal(taken(samples, 0), first)


def test_unreadable_pictures_are_counted_once(pictures: SegmentationSet, encoder: DenseEncoder, tmp_path: Path) -> None:
    pictures.pairs[1].image.write_bytes(b"junk")
    pictures.pairs[2].target.unlink()
    samples = Samples(pictures, encoder, 32, tmp_path / "kept", 1 << 30)
    for _ in range(2):
        assert [samples.get(index) is None for index in range(4)] == [False, True, True, False]
    assert samples.skipped == {"unreadable picture": 2}


def test_numbers_are_never_mixed() -> None:
    values = np.random.default_rng(0).integers(0, 2, (30, 47)) * 255
    assert set(np.unique(nearest(values, 13, 90))) == {0, 255}
