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


def placed(*rows: list[tuple[str, int, int]]) -> list[str]:
    """Lines of words that stand from one place to another, letters 20 high."""
    words = [
        Word(text, (x0, 40.0 * number, x1, 40.0 * number + 20))
        for number, row in enumerate(rows)
        for text, x0, x1 in row
    ]
    return texts(words)


def test_cells_that_stand_close_are_parted_where_rows_agree() -> None:
    head = [("Time", 0, 50), ("Destination", 100, 200), ("Platform", 250, 330)]
    rows = [
        [("09:04", 0, 51), ("Leeds", 62, 112), ("3", 250, 260)],
        [("09:17", 0, 51), ("London", 62, 122), ("Road", 128, 168), ("1", 250, 260)],
        [("09:22", 0, 51), ("Upper", 62, 106), ("Hill", 112, 150), ("5", 250, 260)],
        [("09:41", 0, 51), ("York", 62, 100), ("2", 250, 260)],
    ]
    assert placed(head, *rows)[1:4] == ["09:04 | Leeds | 3", "09:17 | London Road | 1", "09:22 | Upper Hill | 5"]


def test_a_cell_begins_where_two_rows_have_one() -> None:
    rows = [
        [("Employee", 0, 85), ("Grace", 110, 170), ("No.", 300, 330), ("40", 400, 420)],
        [("Department", 0, 104), ("Logistics", 110, 200), ("Code", 300, 350), ("12", 400, 420)],
        [("Paid", 0, 40), ("on", 46, 66), ("30/04", 110, 170), ("Place", 300, 350), ("9", 400, 410)],
    ]
    assert placed(*rows) == [
        "Employee | Grace | No. | 40",
        "Department | Logistics | Code | 12",
        "Paid on | 30/04 | Place | 9",
    ]


def test_ragged_ends_part_nothing() -> None:
    rows = [
        [("1", 0, 10), ("Delayed", 60, 128), ("12", 138, 158), ("min", 166, 200), ("x", 300, 310)],
        [("2", 0, 10), ("Ontimenow", 60, 130), ("x", 300, 310)],
        [("3", 0, 10), ("Cancelledhere", 60, 158), ("x", 300, 310)],
    ]
    assert placed(*rows)[0] == "1 | Delayed 12 min | x"
