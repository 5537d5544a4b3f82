"""J and F against a slow implementation that shares nothing with ours: pixel loops and SciPy's morphology."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from midsight.errors import InputError, ShapeError
from midsight.evaluate.metrics import jf
from midsight.evaluate.metrics.jf import contours, dilated, object_figures

Maps = npt.NDArray[np.uint8]


def blobs(seed: int, frames: int = 5, height: int = 40, width: int = 56, objects: int = 2) -> Maps:
    """Label maps with round blobs that move."""
    dice = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    maps = np.zeros((frames, height, width), np.uint8)
    for label in range(1, objects + 1):
        y, x = dice.uniform(0, height), dice.uniform(0, width)
        for t in range(frames):
            y, x = y + dice.normal(0, 2), x + dice.normal(0, 2)
            maps[t][(rows - y) ** 2 + (columns - x) ** 2 < dice.uniform(30, 150)] = label
    return maps


def slow_contour(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    height, width = mask.shape
    found = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            found[y, x] = any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in others)
    return found


def slow_jf(predicted: Maps, truth: Maps) -> tuple[float, float]:
    height, width = truth.shape[1:]
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    js, fs = [], []
    for label in set(truth[0].ravel()) - {0, 255}:
        for ours, theirs in zip(predicted[1:-1] == label, truth[1:-1] == label, strict=True):
            union = (ours | theirs).sum()
            js.append((ours & theirs).sum() / union if union else 1.0)
            a, b = slow_contour(ours), slow_contour(theirs)
            if a.sum() and b.sum():
                precision = (a & ndimage.binary_dilation(b, disk)).sum() / a.sum()
                recall = (b & ndimage.binary_dilation(a, disk)).sum() / b.sum()
                fs.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
            else:
                fs.append(float(a.sum() == b.sum()))
    return float(np.mean(js)), float(np.mean(fs))


@pytest.mark.parametrize("seed", range(6))
def test_figures_agree_with_a_slow_implementation(seed: int) -> None:
    truth = blobs(seed)
    truth[0, :8, :8], truth[0, -8:, -8:] = 1, 2
    predicted = np.where(np.random.default_rng(seed).random(truth.shape) < 0.03, blobs(seed + 100), truth)
    predicted = np.roll(predicted, seed % 3, axis=2).astype(np.uint8)
    found = jf(predicted, truth)
    j, f = slow_jf(predicted, truth)
    assert 0.1 < j < 1
    assert (found["J"], found["F"]) == pytest.approx((j, f), abs=1e-12)
    assert found["JF"] == pytest.approx((j + f) / 2)


def test_border_contours_and_dilation_at_the_edge() -> None:
    dice = np.random.default_rng(0)
    masks = dice.random((3, 9, 13)) < 0.4
    for mask, found in zip(masks, contours(masks), strict=True):
        np.testing.assert_array_equal(found, slow_contour(mask))
    sparse = dice.random((2, 12, 20)) < 0.03
    for radius in (1, 2, 5, 30):
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        expected = [ndimage.binary_dilation(mask, x**2 + y**2 <= radius**2) for mask in sparse]
        np.testing.assert_array_equal(dilated(sparse, radius), expected)


def test_what_counts() -> None:
    truth = blobs(3)
    truth[0, 5:9, 5:9], truth[0, 20:30, 20:30] = 7, 1
    wrong_ends = truth.copy()
    wrong_ends[[0, -1]] = 0
    assert jf(wrong_ends, truth) == {"J": 1.0, "F": 1.0, "JF": 1.0}, "first and last frame do not count"
    void = truth.copy()
    void[1:-1][void[1:-1] == 0] = 255
    assert jf(truth, void)["JF"] == 1.0, "void is background"
    assert object_figures(truth, truth)[7] == (1.0, 1.0), "an object missing on both sides"
    extra = truth.copy()
    extra[2, :3, :3] = 7
    assert object_figures(extra, truth)[7] == pytest.approx((2 / 3, 2 / 3)), "an object where there is none"


def test_input_that_cannot_be_measured() -> None:
    truth = blobs(0)
    with pytest.raises(InputError, match="no object"):
        jf(truth, np.zeros_like(truth))
    with pytest.raises(InputError, match="at least 3"):
        jf(truth[:2], truth[:2])
    with pytest.raises(ShapeError, match="same frames"):
        jf(truth[:4], truth)
    with pytest.raises(ShapeError, match="predicted: expected integer"):
        jf(truth / 2, truth)
