"""Text that is too long keeps the lines near the question, in their order."""

from midsight.library.documents.passages import page_text
from tests.library.documents.makers import page_of


def words(text: str) -> int:
    return len(text.split())


def test_what_fits_stays_whole() -> None:
    page = page_of(["one two", "three   four"])
    assert page_text([page], "four?", 100, words) == "one two\nthree | four"


def test_the_lines_nearest_to_the_question_stay_in_order() -> None:
    rows = [f"line {n} says nothing" for n in range(40)]
    rows[25] = "the harbour fee is forty"
    text = page_text([page_of(rows)], "What is the harbour fee?", 20, words)
    assert text.split("\n") == ["...", "line 24 says nothing", "the harbour fee is forty", "line 26 says nothing"]
    assert page_text([page_of(rows)], "What is the harbour fee?", 0, words) == ""


def test_pages_stand_under_their_numbers() -> None:
    pages = [page_of(["one"], number=2), page_of(["two"], number=5), page_of([], number=7)]
    assert page_text(pages, "?", 100, words) == "Page 2:\none\n\nPage 5:\ntwo"
