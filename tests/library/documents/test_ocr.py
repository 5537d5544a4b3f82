"""Words read in pictures of text that Pillow drew."""

import sys

import numpy as np
import pytest

from midsight.errors import MissingDependencyError
from midsight.library.documents import ocr
from midsight.library.documents.layout import read_lines
from tests.library.documents.makers import picture_of

LINES = [
    (40, 30, "Delivery note"),
    (40, 110, "Garden hose"),
    (420, 110, "$21.50"),
    (40, 170, "The library opens at noon"),
]


def test_lines_words_and_cells_of_a_picture() -> None:
    words = ocr.recognise(np.asarray(picture_of(LINES)))
    found = [line.text for line in read_lines(words)]
    assert found == ["Delivery note", "Garden hose | $21.50", "The library opens at noon"]
    price = next(word for word in words if word.text == "$21.50")
    assert 410 < price.box[0] < 435
    assert 100 < price.box[1] < price.box[3] < 145


def test_spaces_that_the_engine_leaves_out_are_seen_in_the_picture() -> None:
    line = np.full((40, 400, 3), 255, np.uint8)
    for start in (10, 30, 50, 120, 140, 160, 230, 250):  # letters 14 wide, 6 apart, and two gaps of 56
        line[8:32, start : start + 14] = 0
    centres = [(start + 7) / 400 for start in (10, 30, 50, 120, 140, 160, 230, 250)]
    words = ocr.split(line, "theoldhq", centres)
    assert [word for word, *_ in words] == ["the", "old", "hq"]
    assert words[1][1:] == pytest.approx((120 / 400, 174 / 400), abs=0.01)


def drawn(text: str, apart: dict[int, int]) -> list[str]:
    """Words of a line of letters 10 wide and 2 apart, but for gaps behind some of them; a space is 8 wide."""
    starts, at = [], 4
    for index, letter in enumerate(text):
        starts.append(at)
        at += 8 if letter == " " else 10 + apart.get(index, 2)
    line = np.full((40, at + 4, 3), 255, np.uint8)
    for start, letter in zip(starts, text, strict=True):
        if letter != " ":
            line[8:32, start : start + 10] = 0
    centres = [(start + 5) / line.shape[1] for start in starts]
    return [word for word, *_ in ocr.split(line, text, centres)]


def test_where_words_are_glued_the_spaces_of_the_picture_count() -> None:
    gaps = {7: 10, 9: 10, 11: 10}  # behind "read", "on", "24"; narrower than what parts words where spaces were seen
    assert drawn("you readon24May now", gaps) == ["you", "read", "on", "24", "May", "now"]
    assert drawn("you ABCDEF24 now", {7: 10}) == ["you", "ABCDEF24", "now"], "the engine is believed"
    assert drawn("to a@read24may.org now", {7: 10}) == ["to", "a@read24may.org", "now"], "an address"


@pytest.mark.parametrize(
    ("text", "gaps", "words"),
    [
        ("Confirmationnumber:77", {4: 10, 11: 10, 13: 10, 18: 10}, ["Confirmation", "number:", "77"]),
        ("Server:Noor", {1: 10, 4: 10, 6: 10, 9: 10}, ["Server:", "Noor"]),
        ("DanielWhitmore", {5: 10}, ["Daniel", "Whitmore"]),
        ("11 September", {5: 20}, ["11", "Sep", "tember"]),
    ],
)
def test_white_inside_of_a_word_does_not_part_it(text: str, gaps: dict[int, int], words: list[str]) -> None:
    assert drawn(text, gaps) == words


def test_a_word_begins_where_it_is_seen_to_begin() -> None:
    line = np.full((40, 300, 3), 255, np.uint8)
    starts = (10, 22, 60, 72)  # "ab cd", with the white from 32 to 60
    for start in starts:
        line[8:32, start : start + 10] = 0
    words = ocr.split(line, "ab cd", [15 / 300, 27 / 300, 40 / 300, 65 / 300, 77 / 300])
    assert [(word, round(start * 300), round(end * 300)) for word, start, end in words] == [
        ("ab", 0, 32), ("cd", 60, 300),
    ]  # fmt: skip


def test_signs_of_a_number_do_not_part_it() -> None:
    line = np.full((40, 300, 3), 255, np.uint8)
    starts = (10, 30, 56, 76, 96)  # 6 9 . 9 9, the sign narrow
    for start in starts:
        line[8:32, start : start + (4 if start == 56 else 14)] = 0
    assert [word for word, *_ in ocr.split(line, "69.99", [(s + 7) / 300 for s in starts])] == ["69.99"]


def test_two_figures_one_are_one_number() -> None:
    line = np.full((40, 300, 3), 255, np.uint8)
    starts = (10, 20, 60, 66, 72)  # two narrow figures 8 apart, then letters 2 apart
    for start in starts:
        line[8:32, start : start + (2 if start < 60 else 4)] = 0
    assert [word for word, *_ in ocr.split(line, "11mm\N{PLUS SIGN}", [(s + 2) / 300 for s in starts])][0] == "11"


def test_dots_between_words_part_them() -> None:
    line = np.full((40, 300, 3), 255, np.uint8)
    starts = (10, 24, 38, 52, 66)  # all 4 apart
    for start in starts:
        line[8:32, start : start + 10] = 0
    words = ocr.split(line, "AB\N{MIDDLE DOT}21", [(s + 5) / 300 for s in starts])
    assert [word for word, *_ in words] == ["AB", "\N{MIDDLE DOT}", "21"]
    assert [end for _, _, end in words[:-1]] == pytest.approx([36 / 300, 50 / 300], abs=0.01)


def test_signs_are_not_wide_as_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def __call__(self, image: np.ndarray, **_: bool) -> tuple[list[list[list[int]]], float]:
            return [[[0, 0], [200, 0], [200, 40], [0, 40]]], 0.0

        def get_crop_img_list(self, image: np.ndarray, corners: list[np.ndarray]) -> list[np.ndarray]:
            return [image[:40, :200]]

        def text_rec(self, lines: list[np.ndarray], _: bool) -> tuple[list[tuple[object, ...]], float]:
            columns = list(range(8))
            return [
                (
                    "a\N{FULLWIDTH COMMA}\N{FULLWIDTH LEFT PARENTHESIS}bcd\N{IDEOGRAPHIC FULL STOP}e",
                    0.9,
                    (8, 0, [columns]),
                )
            ], 0.0

    monkeypatch.setattr(ocr, "engine", Engine)
    assert "".join(word.text for word in ocr.recognise(np.full((60, 240, 3), 255, np.uint8))) == "a,(bcd.e"


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 40), (400, 300)])
def test_pictures_without_text_have_no_words(size: tuple[int, int]) -> None:
    assert ocr.recognise(np.full((*size, 3), 255, np.uint8)) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    ocr.engine.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"rapidocr-onnxruntime.*pip install --no-deps.*--ocr never"):
        ocr.recognise(np.full((40, 40, 3), 255, np.uint8))
