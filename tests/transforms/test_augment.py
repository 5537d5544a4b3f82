"""Training transforms: repeatable draws within the published ranges."""

import numpy as np
import pytest
import torch

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError
from midsight.transforms.augment import AugmentConfig, Draw, TrainTransform, crop_box, draw, jitter
from midsight.transforms.image import from_config

PLAIN = Draw(area=1.0, aspect=1.0, top=0.0, left=0.0, brightness=1.0, saturation=1.0, flip=False)


def test_draws_follow_seed_and_key_and_stay_in_range() -> None:
    config = AugmentConfig()
    draws = [draw(config, 0, str(key)) for key in range(2000)]
    assert draws[7] == draw(config, 0, "7")
    assert draws[7] != draw(config, 1, "7")
    for name, low, high in (("area", 0.08, 1), ("aspect", 0.75, 1.33), ("brightness", 0.68, 1.32)):
        values = np.array([getattr(d, name) for d in draws])
        assert values.min() >= low
        assert values.max() <= high
        assert values.max() - values.min() > 0.95 * (high - low)
    assert 0.45 < np.mean([d.flip for d in draws]) < 0.55
    assert abs(np.mean(np.log([d.aspect for d in draws])) - (np.log(0.75) + np.log(1.33)) / 2) < 0.02


def test_crops_lie_inside_and_have_the_area() -> None:
    for key in range(200):
        drawn = draw(AugmentConfig(area=(0.08, 0.5)), 3, str(key))
        top, left, high, wide = crop_box(300, 400, drawn)
        assert 0 <= top <= 300 - high
        assert 0 <= left <= 400 - wide
        assert high * wide == pytest.approx(300 * 400 * drawn.area, rel=0.02)
        assert wide / high == pytest.approx(drawn.aspect, rel=0.02)


def test_odd_pictures_keep_a_pixel() -> None:
    assert crop_box(1, 4000, draw(AugmentConfig(), 0, "x"))[2] == 1


def test_jitter_by_hand() -> None:
    pixels = torch.tensor([100, 50, 200], dtype=torch.uint8).view(3, 1, 1)
    assert torch.equal(jitter(pixels, PLAIN), pixels)
    brighter = jitter(pixels, Draw(1, 1, 0, 0, brightness=1.3, saturation=1.0, flip=False))
    assert brighter.flatten().tolist() == [130, 65, 255]
    grey = jitter(pixels, Draw(1, 1, 0, 0, brightness=1.0, saturation=0.0, flip=False))
    assert grey.flatten().tolist() == [82, 82, 82]  # 0.299 * 100 + 0.587 * 50 + 0.114 * 200


def test_without_augmentation_it_is_the_transform_of_inference() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    preprocess = PreprocessConfig(32)
    assert torch.equal(TrainTransform(preprocess, None)(picture), from_config(preprocess)(picture))
    neutral = AugmentConfig((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0)
    square = picture[:, :40]
    torch.testing.assert_close(TrainTransform(preprocess, neutral)(square, "k"), from_config(preprocess)(square))


def test_flip_mirrors() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    flips = AugmentConfig((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 1.0)
    flipped = TrainTransform(PreprocessConfig(32), flips)(picture)
    assert torch.equal(flipped, from_config(PreprocessConfig(32))(picture).flip(-1))


def test_frames_of_a_clip_share_one_draw() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    transform = TrainTransform(PreprocessConfig(16), seed=4)
    clip = transform.clip(np.stack([frame, frame, frame]), "a")
    assert clip.shape == (3, 3, 16, 16)
    assert torch.equal(clip[0], clip[2])
    assert torch.equal(clip[0], transform(frame, "a"))
    assert not torch.equal(clip[0], transform(frame, "b"))


def test_ranges_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="area"):
        AugmentConfig(area=(0.5, 1.5))
    with pytest.raises(ConfigError, match="flip"):
        AugmentConfig(flip=2)
