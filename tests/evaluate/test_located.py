"""Boxes and stretches of time against gold ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou as peer_iou

from midsight.evaluate.metrics.located import SPAN_IOUS, Box, box_iou, parse_span, span_iou, span_recall

SIDES = st.integers(0, 20)
BOXES = st.tuples(SIDES, SIDES, st.integers(1, 20), st.integers(1, 20)).map(
    lambda box: (float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3]))
)
SPANS = st.tuples(SIDES, SIDES)


@given(BOXES, BOXES)
def test_boxes_agree_with_torchvision(a: Box, b: Box) -> None:
    expected = peer_iou(torch.tensor([a]), torch.tensor([b])).item()
    assert box_iou(a, b) == pytest.approx(expected, rel=1e-6)


def test_boxes_without_an_area_overlap_nothing() -> None:
    assert box_iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0


@given(SPANS, SPANS)
def test_spans_agree_with_sets_of_seconds(a: tuple[int, int], b: tuple[int, int]) -> None:
    first, second = set(range(min(a), max(a))), set(range(min(b), max(b)))
    expected = len(first & second) / len(first | second) if first | second else 0
    assert span_iou(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("[3, 17]", (3, 17)),
        ("It happens in [0,5].", (0, 5)),
        ("12.5-20.25", (12.5, 20.25)),
        ("12.5 - 20", (12.5, 20)),
        ("from 3s to 8s", (3, 8)),
        ("3 seconds to 8 seconds", (3, 8)),
        ("between 2 and 9", (2, 9)),
        ("about 7", None),
        ("frame 4 of 8", None),
        ("", None),
    ],
)
def test_a_span_is_read_from_an_answer(text: str, span: tuple[float, float] | None) -> None:
    assert parse_span(text) == span


def test_recall_counts_each_threshold_that_is_exceeded() -> None:
    assert SPAN_IOUS == (0.3, 0.5, 0.7, 0.9)
    assert span_recall((0, 10), (0, 10)) == [1, 1, 1, 1]
    assert span_recall((0, 6), (0, 10)) == [1, 1, 0, 0]
    assert span_recall((0, 5), (0, 10)) == [1, 0, 0, 0]  # 0.5 is not above 0.5
    assert span_recall((10, 20), (0, 10)) == span_recall(None, (0, 10)) == [0, 0, 0, 0]
