"""Which rows of two tables of detections are the same ones."""

from collections.abc import Mapping

import numpy as np

from midsight.export.runner import Array

MIN_IOU = 0.9
Index = tuple[Array, Array]  # picture and row of each detection


def pair_up(found: Mapping[str, Array], expected: Mapping[str, Array]) -> tuple[Index, Index, float | None]:
    """Detections of one label that overlap by 0.9 or more, each taken once, the best scores first.

    Args:
        found, expected: labels int64 (B, D), -1 where a row is not used, and boxes_xyxy float32 (B, D, 4).

    Returns:
        Where the pairs are in `found` and in `expected`, and their share of the detections of the table that has more;
        None where neither has any.
    """
    pairs: list[tuple[int, int, int]] = []
    total = 0
    for picture, (labels, wanted) in enumerate(zip(found["labels"], expected["labels"], strict=True)):
        ours, theirs = np.flatnonzero(labels >= 0), np.flatnonzero(wanted >= 0)
        total += max(len(ours), len(theirs))
        overlap = _iou(found["boxes_xyxy"][picture][ours], expected["boxes_xyxy"][picture][theirs])
        overlap[labels[ours][:, None] != wanted[theirs]] = 0
        for row in range(len(ours)):
            if len(theirs) and overlap[row].max() >= MIN_IOU:
                best = int(overlap[row].argmax())
                overlap[:, best] = 0
                pairs.append((picture, int(ours[row]), int(theirs[best])))
    where = np.array(pairs, np.int64).reshape(-1, 3)
    return (where[:, 0], where[:, 1]), (where[:, 0], where[:, 2]), len(pairs) / total if total else None


def _iou(a: Array, b: Array) -> Array:
    """(N, 4) and (M, 4) to (N, M)."""
    size = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    inner = size.clip(min=0).prod(axis=-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=-1) for x in (a, b)]
    return np.asarray(inner / np.maximum(areas[0][:, None] + areas[1] - inner, 1e-9), np.float64)
