"""Large-scale jitter: objects stay where the picture shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from midsight.errors import ConfigError
from midsight.tasks.detection.augment import Jitter, JitterConfig, draw, large_scale_jitter, scaled_size
from midsight.tasks.detection.targets import Target, boxes_of_masks

BOXES = ((10, 20, 40, 44), (60, 8, 90, 30), (0, 0, 6, 6))


def scene() -> tuple[np.ndarray, Target]:
    """Three rectangles of 64 x 100 pixels, each of a colour of its own on black, and their labels."""
    image = np.zeros((64, 100, 3), np.uint8)
    masks = torch.zeros(3, 64, 100, dtype=torch.bool)
    for index, (x1, y1, x2, y2) in enumerate(BOXES):
        image[y1:y2, x1:x2, index] = 255
        masks[index, y1:y2, x1:x2] = True
    return image, Target(torch.tensor(BOXES, dtype=torch.float32), torch.arange(3), masks)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.9])
@pytest.mark.parametrize("with_masks", [False, True])
def test_objects_follow_the_picture(scale: float, flip: bool, with_masks: bool) -> None:
    image, target = scene()
    if not with_masks:
        target = Target(target.boxes, target.labels)
    for place in (0.0, 0.4, 1.0):
        pixels, found = large_scale_jitter(image, target, 128, Jitter(scale, flip, place, place))
        assert pixels.dtype is torch.uint8
        assert pixels.shape[1:] == tuple(min(128, side) for side in scaled_size((64, 100), 128 * scale))
        seen = pixels > 127
        assert len(found) >= 1
        for index, label in enumerate(found.labels.tolist()):
            expected = boxes_of_masks(seen[label][None])[0]
            torch.testing.assert_close(found.boxes[index], expected, rtol=0, atol=1.1)
            if found.masks is not None:
                assert (found.masks[index] != seen[label]).sum() <= 0.12 * seen[label].sum() + 4
        gone = set(range(3)) - set(found.labels.tolist())
        assert all(seen[label].sum() <= 8 for label in gone)


def test_scale_one_without_a_flip_is_the_transform_of_inference() -> None:
    image, target = scene()
    pixels, found = large_scale_jitter(image, target, 100, Jitter(1.0, False, 0.3, 0.3))
    assert torch.equal(pixels, torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(found.boxes, target.boxes)
    assert found.masks is not None
    assert torch.equal(found.masks, target.masks)


def test_draws_follow_seed_and_key() -> None:
    config = JitterConfig()
    draws = [draw(config, seed, key) for seed in (0, 1) for key in ("a", "b")]
    assert draws[0] == draw(config, 0, "a")
    assert len(set(draws)) == 4
    scales = [draw(config, 0, str(n)).scale for n in range(400)]
    assert min(scales) >= 0.1
    assert max(scales) <= 2
    assert np.mean(scales) == pytest.approx(1.05, abs=0.1)
    assert 0.4 < np.mean([draw(config, 0, str(n)).flip for n in range(400)]) < 0.6


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="augment.scale"):
        JitterConfig(scale=(0.0, 1.0))
    with pytest.raises(ConfigError, match="augment.flip"):
        JitterConfig(flip=2)


def test_nothing_left(tmp_path: Path) -> None:
    image, target = scene()
    _, found = large_scale_jitter(image, target.pick(torch.tensor([2])), 50, Jitter(2.0, False, 1.0, 1.0))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
