"""Region similarity J and contour accuracy F of video object segmentation, as the DAVIS 2017 evaluation computes them.

Source: DAVIS 2017 evaluation, semi-supervised task: the first and the last frame do not count, void (255) is
background, J is the intersection over the union, F the harmonic mean of precision and recall of contours that may lie
0.8 % of the picture's diagonal apart.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, ShapeError

Labels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Figures = npt.NDArray[np.float64]

VOID = 255
TOLERANCE = 0.008  # of the diagonal


def jf(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, float]:
    """J, F and their mean for one video: means over frames, then over objects.

    Args:
        predicted: integer label maps (T, H, W); 0 is background, labels that `truth` does not start with count as it.
        truth: integer label maps (T, H, W), T of at least 3. The objects are the labels of its first frame (the
            DAVIS code takes all from 1 to the highest; its own annotations leave none out).

    Returns:
        "J", "F" and "JF", between 0 and 1.

    Raises:
        ShapeError: maps of different sizes, not three-dimensional, or not integer.
        InputError: fewer than three frames, or no object in the first.
    """
    found = object_figures(predicted, truth)
    j, f = np.mean(list(found.values()), axis=0)
    return {"J": float(j), "F": float(f), "JF": float((j + f) / 2)}


def object_figures(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[int, tuple[float, float]]:
    """J and F of each object, means over the frames that count; arguments and errors as `jf`."""
    _check(predicted, truth)
    objects = [int(label) for label in np.unique(truth[0]) if label not in (0, VOID)]
    if not objects:
        raise InputError("the first frame of the truth has no object: all its labels are 0 or 255")
    if len(truth) < 3:
        raise InputError(f"the first and the last frame do not count, so at least 3 are needed, got {len(truth)}")
    found = {}
    for label in objects:
        ours, theirs = predicted[1:-1] == label, truth[1:-1] == label
        found[label] = float(region_similarity(ours, theirs).mean()), float(contour_accuracy(ours, theirs).mean())
    return found


def region_similarity(predicted: Bools, truth: Bools) -> Figures:
    """J of each frame (T,): intersection over union, 1 where both are empty. Masks bool (T, H, W)."""
    both = (predicted & truth).sum(axis=(1, 2))
    either = (predicted | truth).sum(axis=(1, 2))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def contour_accuracy(predicted: Bools, truth: Bools) -> Figures:
    """F of each frame (T,): 1 where neither has a contour, 0 where one has. Masks bool (T, H, W)."""
    reach = math.ceil(TOLERANCE * math.hypot(*truth.shape[1:]))
    ours, theirs = contours(predicted), contours(truth)
    precision = _matched(ours, dilated(theirs, reach))
    recall = _matched(theirs, dilated(ours, reach))
    none = ours.any(axis=(1, 2)) == theirs.any(axis=(1, 2))
    harmonic = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(ours.any(axis=(1, 2)) & theirs.any(axis=(1, 2)), harmonic, none.astype(np.float64))


def contours(masks: Bools) -> Bools:
    """Pixels that differ from their right, lower or lower right neighbour; at the border, from those there are."""
    found = np.zeros_like(masks)
    found[:, :, :-1] |= masks[:, :, :-1] ^ masks[:, :, 1:]
    found[:, :-1] |= masks[:, :-1] ^ masks[:, 1:]
    found[:, :-1, :-1] |= masks[:, :-1, :-1] ^ masks[:, 1:, 1:]
    return found


def dilated(masks: Bools, radius: int) -> Bools:
    """Pixels that have a set one within `radius`, by Euclidean distance: row by row of the disk, with running sums."""
    height, width = masks.shape[1:]
    sums = np.zeros((*masks.shape[:2], width + 1 + 2 * radius), np.int32)  # sums[x + radius] counts pixels before x
    sums[:, :, radius + 1 : radius + 1 + width] = np.cumsum(masks, axis=2)
    sums[:, :, radius + 1 + width :] = sums[:, :, radius + width, None]
    found = np.zeros_like(masks)
    for away in range(min(radius, height - 1) + 1):
        half = math.isqrt(radius * radius - away * away)
        left, right = radius - half, radius + half + 1
        row = sums[:, :, right : right + width] != sums[:, :, left : left + width]
        found[:, away:] |= row[:, : height - away]
        found[:, : height - away] |= row[:, away:]
    return found


def _matched(contour: Bools, near: Bools) -> Figures:
    """The share of each frame's contour that is near the other; 0 where there is no contour."""
    return (contour & near).sum(axis=(1, 2)) / np.maximum(contour.sum(axis=(1, 2)), 1)


def _check(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    for name, maps in (("predicted", predicted), ("truth", truth)):
        if maps.ndim != 3 or maps.dtype.kind not in "iu":
            raise ShapeError(f"{name}: expected integer label maps (T, H, W), got {maps.dtype} {maps.shape}")
    if predicted.shape != truth.shape:
        raise ShapeError(f"predicted is {predicted.shape} and truth {truth.shape}; expected the same frames and size")
