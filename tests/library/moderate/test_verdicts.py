"""Clips of a file to one verdict, and back from JSON."""

import json

import pytest

from midsight.errors import InputError
from midsight.library.moderate import Category, Finding, Stretch, Verdict
from midsight.library.moderate.verdicts import Clip, clock, from_record, judge

CATEGORIES = (Category("a", ("x",), threshold=0.8, review=0.4), Category("b", ("y",), threshold=0.5))


def clips(*scores: tuple[float, float]) -> list[Clip]:
    return [Clip(pair, ("x", "y"), 2.0 * n, 2.0 * n + 2) for n, pair in enumerate(scores)]


def test_stretches_that_touch_are_one() -> None:
    found = judge("v.mp4", CATEGORIES, clips((0.4, 0.1), (0.9, 0.1), (0.3, 0.5), (0.5, 0.499), (0.7, 0)))
    assert found == Verdict(
        "v.mp4",
        "flag",
        (
            Finding("a", "flag", 0.9, 0.8, 0.4, "x", (Stretch(0, 4, 0.9), Stretch(6, 10, 0.7))),
            Finding("b", "flag", 0.5, 0.5, None, "y", (Stretch(4, 6, 0.5),)),
        ),
    )
    assert from_record(json.loads(json.dumps(found.record()))) == found
    assert found.top == found.findings[0]


@pytest.mark.parametrize(
    ("scores", "error", "word"),
    [
        ((0.79, 0.1), None, "review"),
        ((0.39, 0.49), None, "pass"),
        ((0.1, 0.9), None, "flag"),
        ((0.5, 0.1), "cut", "error"),
        ((0.9, 0.1), "cut", "flag"),
    ],
)
def test_the_gravest_word_holds(scores: tuple[float, float], error: str | None, word: str) -> None:
    found = judge("p.jpg", CATEGORIES, [Clip(scores, ("x", "y"))], error)
    assert (found.verdict, found.error) == (word, error)
    assert all(finding.ranges == () for finding in found.findings), "a picture has no times"


def test_nothing_to_judge() -> None:
    found = judge("p.jpg", CATEGORIES, [], "broken")
    assert (found.verdict, found.findings, found.top) == ("error", (), None)


@pytest.mark.parametrize("record", [{}, [], {"path": "a", "verdict": "odd", "findings": [], "error": None},
                                    {"path": "a", "verdict": "pass", "findings": [{}], "error": None}])  # fmt: skip
def test_records_that_are_no_verdicts(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match="not a verdict"):
        from_record(record)


def test_clock() -> None:
    assert [clock(x) for x in (0, 5.28, 59.96, 61, 3725.5)] == ["0:00", "0:05.3", "1:00", "1:01", "1:02:05.5"]
