"""Boxes of the words that spell an answer, and boxes that a model wrote."""

import pytest

from midsight.library.documents.evidence import find_words, grounded
from tests.library.documents.makers import page_of

PAGE = page_of(
    ["Invoice number      4711", "Total               $1,037.20", "Garden hoses and lamps", "Paid: 1,037.20 today"]
)


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ("4711", 0), ("$1,037.20", 1), ("1037.20", 1), ("GARDEN HOSES", 2), ("garden hoses, and lamps.", 2),
        ("Garden hose and lamps", 2),
    ],
)  # fmt: skip
def test_an_answer_is_found_leniently(answer: str, row: int) -> None:
    found = find_words(answer, [PAGE], "What is the total?")
    assert [evidence.box[1] for evidence in found] == [row * 20.0]


def test_of_equal_places_the_one_near_the_question() -> None:
    assert find_words("1,037.20", [PAGE], "How much was paid today?")[0].box[1] == 60
    assert find_words("1,037.20", [PAGE], "What is the total?")[0].box[1] == 20


@pytest.mark.parametrize("answer", ["", "zebra", "4712", "...", "a " * 100])
def test_what_is_not_there_is_not_found(answer: str) -> None:
    assert find_words(answer, [PAGE]) == []


def test_words_over_two_lines_have_two_boxes() -> None:
    page = page_of(["a b c the harbour", "office closes at noon"])
    assert len(find_words("the harbour office", [page])) == 2


def test_boxes_that_the_model_wrote() -> None:
    found = grounded("It is here: [100,200,300,400], not [900,000,100,100].", PAGE)
    assert [evidence.box for evidence in found] == [pytest.approx((100.5, 200.5, 300.5, 400.5))]
    assert grounded("nowhere", PAGE) == []
