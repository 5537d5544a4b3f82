"""Words to lines: rows, cells, columns of prose, tables, scans that lie askew."""

import math

import pytest

from midsight.library.documents.layout import Word, around, read_lines
from tests.library.documents.makers import words_of

LEFT = [
    "The harbour office will be",
    "closed on the first Monday",
    "of each month from March",
    "until the end of summer",
]
RIGHT = [
    "Please send all letters to",
    "the new address below and",
    "do not forget the number",
    "that stands on your form",
]


def texts(words: list[Word]) -> list[str]:
    return [line.text for line in read_lines(words)]


def test_words_of_a_line_are_joined_and_cells_are_kept_apart() -> None:
    rows = ["Item          Qty     Price", "Garden hose     2     21.50", "Desk lamp      11      4.20"]
    assert texts(words_of(rows)) == ["Item | Qty | Price", "Garden hose | 2 | 21.50", "Desk lamp | 11 | 4.20"]


def test_order_of_the_words_does_not_matter() -> None:
    words = words_of(["one two", "three   four", "five"])
    assert texts(words[::-1]) == texts(words) == ["one two", "three | four", "five"]


def test_columns_of_prose_are_read_one_after_the_other() -> None:
    rows = [f"{left:<32}{right}" for left, right in zip(LEFT, RIGHT, strict=True)]
    assert texts(words_of(["A heading over both of them", "", *rows, "", "A foot"])) == [
        "A heading over both of them", *LEFT, *RIGHT, "A foot",
    ]  # fmt: skip


def test_a_table_of_four_rows_stays_a_table() -> None:
    rows = [f"Person {i}          Town {i}" for i in range(6)]
    assert texts(words_of(rows)) == [f"Person {i} | Town {i}" for i in range(6)]


def test_a_cell_of_two_lines_joins_the_row_beside_it() -> None:
    words = [
        *words_of(["Anna Lee            Legal"]),
        Word("Bernadette", (0, 20, 97, 32)), Word("Smith", (0, 34, 47, 46)),  # beside a cell in their middle
        Word("Support", (200, 27, 267, 39)),
        Word("Carl", (0, 54, 37, 66)), Word("Sales", (200, 54, 247, 66)),
    ]  # fmt: skip
    assert texts(words) == ["Anna Lee | Legal", "Bernadette Smith | Support", "Carl | Sales"]


@pytest.mark.parametrize("degrees", [-3.0, -1.5, 0.7, 1.5, 3.0])
def test_a_page_that_lies_askew_is_levelled_and_keeps_its_boxes(degrees: float) -> None:
    rows = [f"Article {i:<20}Price{i}0      Shelf{i}" for i in range(8)]
    straight = words_of(rows)
    angle = math.radians(degrees)
    turned = []
    for word in straight:
        x0, y0, x1, y1 = word.box
        down = math.tan(angle) * (x0 + x1) / 2
        turned.append(Word(word.text, (x0, y0 + down, x1, y1 + down)))
    assert texts(turned) == texts(straight)
    assert {word.box for line in read_lines(turned) for word in line.words} == {word.box for word in turned}


def test_words_without_an_area_or_text_are_left_out() -> None:
    assert read_lines([]) == []
    assert read_lines([Word("", (0, 0, 5, 5)), Word("flat", (0, 3, 9, 3)), Word(" ", (0, 0, 9, 9))]) == []
    assert texts([Word("one", (0, 0, 9, 9))]) == ["one"]


def test_around_holds_all_boxes() -> None:
    assert around([(3, 4, 5, 6), (1, 5, 2, 9)]) == (1, 4, 5, 9)
