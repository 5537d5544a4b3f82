"""Answers against gold answers: ANLS, relaxed accuracy, VQA accuracy, options."""

from functools import cache
from itertools import combinations

import pytest
from anls_star import anls_score
from hypothesis import given
from hypothesis import strategies as st

from midsight.errors import InputError
from midsight.evaluate.metrics.answers import anls, levenshtein, relaxed_accuracy
from midsight.evaluate.metrics.choices import all_right, chosen_option
from midsight.evaluate.metrics.vqa import normalise, normalise_words, vqa_accuracy

WORDS = st.text("abcAB1.,", min_size=1, max_size=8)


@cache
def naive_distance(a: str, b: str) -> int:
    """Levenshtein's distance by its definition."""
    if not a or not b:
        return len(a) + len(b)
    exchanged = naive_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(naive_distance(a[1:], b) + 1, naive_distance(a, b[1:]) + 1, exchanged)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=4))
def test_anls_agrees_with_the_library_anls_star(answer: str, golds: list[str]) -> None:
    assert anls(answer, golds) == pytest.approx(anls_score(tuple(golds), answer))


@given(WORDS, WORDS)
def test_the_distance_is_that_of_the_definition(a: str, b: str) -> None:
    assert levenshtein(a, b) == naive_distance(a, b)


@pytest.mark.parametrize(
    ("answer", "golds", "score"),
    [
        ("Coca Cola Company", ["coca cola company"], 1.0),
        ("$ 1,000", ["$1,000", "1000"], 1 - 1 / 7),  # one letter too many of 7
        ("the report", ["annual report"], 1 - 6 / 13),
        ("a report", ["annual reports"], 1 - 6 / 14),
        ("reports", ["annual reports"], 0.5),
        ("report", ["annual reports"], 0.0),  # 6 of 14 letters are below the threshold
        ("ab  cd", ["ab cd"], 1.0),
        ("", ["x"], 0.0),
        ("", [""], 1.0),
    ],
)
def test_anls_of_examples(answer: str, golds: list[str], score: float) -> None:
    assert anls(answer, golds) == pytest.approx(score)


def test_anls_needs_a_gold_answer_and_long_answers_are_nothing() -> None:
    assert anls("x" * 100_000, ["a short answer"]) == 0
    with pytest.raises(InputError, match="no gold answer"):
        anls("x", [])


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("105", "100", 1),
        ("105.1", "100", 0),
        ("95", "100", 1),
        ("-94", "-100", 0),
        ("0.5", "50%", 1),
        ("52%", "50%", 1),
        ("52", "50%", 0),
        ("Yes", "yes", 1),
        (" Yes\n", "yes", 1),
        ("no", "yes", 0),
        ("0", "0", 1),
        ("0.0", "0", 0),  # nothing is near 0 by parts of it
        ("1,000", "1000", 0),  # as in the field's code
        ("2019", "2018", 1),  # years are numbers, too
        ("nan", "5", 0),
    ],
)
def test_relaxed_accuracy(answer: str, gold: str, right: int) -> None:
    assert relaxed_accuracy(answer, gold) == right


@given(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), min_size=2, max_size=10))
def test_vqa_accuracy_is_the_mean_over_all_that_leave_one_person_out(answer: str, golds: list[str]) -> None:
    subsets = list(combinations(golds, len(golds) - 1))
    expected = sum(min(subset.count(answer) / 3, 1) for subset in subsets) / len(subsets)
    assert vqa_accuracy(answer, golds) == pytest.approx(expected)


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_of_ten_people_has_its_known_steps(matches: int, score: float) -> None:
    assert vqa_accuracy("yes", ["yes"] * matches + ["no"] * (10 - matches)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The two Dogs.", "2 dogs"),
        ("none", "0"),
        ("a cat\tand\nan owl", "cat and owl"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldntve", "couldntve"),  # the table knows words with one apostrophe left out
        ("ow's'at", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("lets", "lets"),
        ("x-ray", "x ray"),
        ("left -right", "left right"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("5.", "5"),
        ("10:30", "10:30"),
        ("yes/no", "yes no"),
        ('"stop"', "stop"),
    ],
)
def test_answers_are_written_in_the_official_way(text: str, plain: str) -> None:
    assert normalise(text) == plain
    assert normalise(plain) == plain


def test_answers_of_textvqa_lose_commas_first_and_get_s_apart() -> None:
    assert normalise_words("Macy's, New York?") == "macy 's new york"
    assert normalise("red, blue") == normalise_words("red, blue") == "red blue"
    assert (normalise("a,b"), normalise_words("a,b")) == ("b", "ab")


OPTIONS = ["a red ball", "a ball", "Apple", "none of these"]


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("B", 1),
        ("b.", 1),
        ("(C)", 2),
        ("(c) Apple", 2),
        ("D: none", 3),
        ("[A]", 0),
        ("Answer: C", 2),
        ("The answer is B.", 1),
        ("The correct option is (D) none of these", 3),
        ("a ball", 1),
        ("A ball.", 1),
        ("It is a red ball on grass", 0),  # not the other ball, whose text stands in it
        ("apple", 2),
        ("I think it must be (B), because it is round", 1),
        ("I would say C here", 2),
        ("E", None),
        ("(A) or (B)", None),
        ("A or B", None),
        ("A, B, C", None),
        ("A, a red ball", 0),
        ("", None),
        ("a dog", None),
        ("A pineapple", None),
        ("B C", None),
    ],
)
def test_an_answer_means_an_option(answer: str, index: int | None) -> None:
    assert chosen_option(answer, OPTIONS) == index


@given(st.lists(st.text("abcd ", min_size=1, max_size=5), min_size=2, max_size=8), st.data())
def test_a_letter_always_decides(options: list[str], data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(options) - 1))
    letter = "ABCDEFGH"[right]
    for answer in (letter, letter.lower(), f"({letter})", f"{letter}. {options[right]}", f"Answer: {letter}"):
        assert chosen_option(answer, options) == right


def test_a_question_counts_only_if_it_is_right_against_every_distractor() -> None:
    found = all_right([True, True, False, True, True], ["a", "b", "a", "b", "c"])
    assert found == {"a": False, "b": True, "c": True}
    assert list(found) == ["a", "b", "c"]
