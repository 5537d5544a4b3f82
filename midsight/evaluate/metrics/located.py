"""Answers that say where or when: boxes and stretches of time against the gold ones."""

import re
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
Span = tuple[float, float]  # start, end

BOX_IOU = 0.5
SPAN_IOUS = (0.3, 0.5, 0.7, 0.9)
_NUMBER = r"(\d+(?:\.\d+)?)"
_SPANS = (
    re.compile(rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]"),
    re.compile(rf"{_NUMBER}\s*s?(?:ec(?:ond)?s?)?\s*(?:-|–|to|and)\s*{_NUMBER}"),
)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 where they have no area."""
    both = _overlap((a[0], a[2]), (b[0], b[2])) * _overlap((a[1], a[3]), (b[1], b[3]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / area if area > 0 else 0.0


def span_iou(a: Span, b: Span) -> float:
    """Intersection over union of two stretches of time, in any order of their ends; 0 where they have no length."""
    a, b = (min(a), max(a)), (min(b), max(b))
    both = _overlap(a, b)
    length = a[1] - a[0] + b[1] - b[0] - both
    return both / length if length > 0 else 0.0


def parse_span(text: str) -> Span | None:
    """The first "[start, end]" of an answer, or else the first "start-end", "start to end"; None without one."""
    for pattern in _SPANS:
        if match := pattern.search(text):
            return float(match.group(1)), float(match.group(2))
    return None


def span_recall(found: Span | None, gold: Span, thresholds: Sequence[float] = SPAN_IOUS) -> list[float]:
    """Recall@1 at each threshold, 1 or 0: whether the answer overlaps the gold stretch by more than that.

    Source: PerceptionLM paper, 5.1 (RTLoc: the mean over 0.3, 0.5, 0.7 and 0.9).
    """
    overlap = 0.0 if found is None else span_iou(found, gold)
    return [float(overlap > threshold) for threshold in thresholds]


def _overlap(a: Span, b: Span) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
