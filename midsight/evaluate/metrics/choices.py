"""Questions with options: which option an answer means, and accuracy over sets of questions."""

import re
from collections.abc import Hashable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEAD = re.compile(r"^(?:the\s+)?(?:best\s+|correct\s+)?(?:answer|option|choice)\s*(?:is\b|:)?\s*:?\s*", re.IGNORECASE)
_FIRST = re.compile(r"^[(\[]?([A-Za-z])(?:[)\].:,]|$)")  # "B", "B.", "(b)", "b) text"
_HEDGED = re.compile(r"^\W?[A-Za-z]\W*(?:or|and|/|,)\s*\W?[A-Za-z](?:[)\].,]|\s*$)", re.IGNORECASE)  # "A or B"
_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_ALONE = re.compile(r"\b([B-HJ-Z])\b")  # capitals; A and I are words as well


def chosen_option(answer: str, options: Sequence[str]) -> int | None:
    """Index of the option that an answer means, None where that is not clear.

    The first of these that finds one option decides: a letter in front ("B", "(b)", "B. a dog", "The answer is B"); the
    text of an option as the whole answer; one bracketed letter somewhere; one option's text somewhere, as whole words
    (of options within each other, the longest); one capital letter that stands alone.

    Our rules: each benchmark's own code differs a little, and all of them take a plain letter.
    """
    told = _LEAD.sub("", answer.strip()).strip()
    if _HEDGED.match(told):
        return None
    if (first := _FIRST.match(told)) and (index := _index(first.group(1), options)) is not None:
        return index
    texts = [_plain(option) for option in options]
    said = _plain(told)
    rules = (
        {index for index, text in enumerate(texts) if text and text == said},
        {_index(letter, options) for letter in _BRACKETED.findall(told)},
        _mentioned(said, texts),
        {_index(letter, options) for letter in _ALONE.findall(told)},
    )
    for found in rules:
        known = found - {None}
        if len(known) == 1:
            return known.pop()
    return None


def all_right(right: Sequence[bool], questions: Sequence[Hashable]) -> dict[Hashable, bool]:
    """Multi-binary accuracy: each question, asked once against every distractor, counts only if always right.

    Args:
        right: of each pair of options.
        questions: to which question each pair belongs.

    Returns:
        One entry for each question, in the order of first appearance; accuracy is their mean.

    Source: PerceptionLM paper, 5.1 (PLM-FGQA).
    """
    found: dict[Hashable, bool] = {}
    for value, question in zip(right, questions, strict=True):
        found[question] = found.get(question, True) and bool(value)
    return found


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = LETTERS.index(letter.upper())
    return index if index < len(options) else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _mentioned(said: str, texts: Sequence[str]) -> set[int | None]:
    """Options whose text stands in the answer and in no other option that stands there."""
    there = [index for index, text in enumerate(texts) if text and f" {text} " in f" {said} "]
    return {
        index
        for index in there
        if not any(other != index and f" {texts[index]} " in f" {texts[other]} " for other in there)
    }
