"""Batches are varied as single pictures are."""

import numpy as np
import pytest
import torch

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError, ShapeError
from midsight.transforms.augment import AugmentConfig, TrainTransform
from midsight.transforms.batched import BatchTransform, resize_crops
from midsight.transforms.image import resize_pixels

LEVEL = 2 / 255  # of 255, in normalised pixels


def squares(count: int, side: int = 48) -> torch.Tensor:
    """Smooth coloured pictures with hard edges."""
    dice = np.random.default_rng(0)
    small = torch.from_numpy(dice.integers(0, 256, (count, 3, 6, 6), dtype=np.uint8))
    return small.repeat_interleave(side // 6, 2).repeat_interleave(side // 6, 3)


@pytest.mark.parametrize("size", [16, 33, 48, 64])
def test_the_same_keys_give_the_pixels_of_single_pictures(size: int) -> None:
    pixels, keys = squares(40), [f"0/{number}" for number in range(40)]
    preprocess = PreprocessConfig(size)
    single = TrainTransform(preprocess, AugmentConfig(), seed=3)
    expected = torch.stack(
        [single(picture.permute(1, 2, 0).numpy(), key) for picture, key in zip(pixels, keys, strict=True)]
    )
    found = BatchTransform(preprocess, AugmentConfig(), seed=3)(pixels, keys)
    assert expected.std() > 0.3
    assert (found - expected).abs().max() <= 2.01 * LEVEL
    assert (found - expected).abs().mean() < 0.25 * LEVEL
    other = BatchTransform(preprocess, AugmentConfig(), seed=4)(pixels, keys)
    assert (found - other).abs().mean() > 20 * LEVEL


@pytest.mark.parametrize("size", [12, 48, 70])
def test_without_augmentation_it_is_the_transform_of_inference(size: int) -> None:
    pixels, preprocess = squares(5), PreprocessConfig(size)
    expected = torch.stack([TrainTransform(preprocess, None)(picture.permute(1, 2, 0).numpy()) for picture in pixels])
    found = BatchTransform(preprocess, None)(pixels)
    assert (found - expected).abs().max() <= 1.01 * LEVEL


def test_crops_of_one_pixel_and_of_the_edge() -> None:
    pixels = squares(3)
    boxes = [(0, 0, 1, 1), (47, 47, 1, 1), (10, 30, 20, 18)]
    found = resize_crops(pixels, boxes, 8)
    for picture, (top, left, high, wide), crop in zip(pixels, boxes, found, strict=True):
        expected = resize_pixels(picture[:, top : top + high, left : left + wide].permute(1, 2, 0).numpy(), 8, 8)
        assert (crop - expected).abs().max() <= 1


def test_what_does_not_fit_is_told() -> None:
    transform = BatchTransform(PreprocessConfig(16))
    with pytest.raises(ShapeError, match="uint8"):
        transform(torch.rand(2, 3, 8, 8), ["a", "b"])
    with pytest.raises(ShapeError, match="one key for each picture: got 1 for 2"):
        transform(squares(2), ["a"])
    with pytest.raises(ConfigError, match="bilinearly"):
        BatchTransform(PreprocessConfig(16, interpolation="bicubic"))
