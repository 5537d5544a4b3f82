"""What people call things, and what documents call them."""

import pytest

from midsight.library.documents.retrieval import terms
from midsight.library.documents.wording import alike, expanded, in_small_words, label_terms


@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        ("heavy", "Weight"), ("guarantee", "Warranty"), ("plate", "Registration"), ("teaches", "Instructor"),
        ("spectators", "Attendance"), ("total", "Gesamtbetrag"),
        ("due", "F\N{LATIN SMALL LETTER A WITH DIAERESIS}llig"),
        ("monday", "MON"),
    ],
)  # fmt: skip
def test_words_that_stand_for_each_other_do_so_in_both_directions(asked: str, printed: str) -> None:
    (question,), (label,) = terms(asked), terms(printed)
    assert label in alike(question)
    assert question in alike(label)
    assert {question, label} <= expanded(asked)


def test_what_is_not_known_stands_for_itself() -> None:
    assert alike("zeppelin") == set()
    assert expanded("Which zeppelin?") == {"zeppelin"}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("How much do I still have to pay?", "balanc"), ("When does it run out?", "valid"),
        ("Where are they flying to?", "destination"), ("Does anybody have to sign for it?", "signatur"),
        ("What time is the train?", None),
    ],
)  # fmt: skip
def test_phrases_of_small_words(question: str, said: str | None) -> None:
    assert said in in_small_words(question) if said else in_small_words(question) == []


def test_small_words_are_labels_where_they_stand_alone() -> None:
    assert label_terms("To:") == ["to"]
    assert label_terms("a letter to Ada") == ["letter", "ada"]
    assert label_terms("Invoice #") == ["invoic", "#"]
