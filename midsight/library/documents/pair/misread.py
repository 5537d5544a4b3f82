"""The faults of OCR put into words that are exactly known: letters taken for others, spaces lost, words lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from midsight.library.documents.layout import Word, around

_ALIKE = {
    "0": "O", "O": "0", "o": "0", "1": "l", "l": "1", "I": "l", "5": "S", "S": "5", "8": "B", "B": "8", "2": "Z",
    "rn": "m", "m": "rn", "vv": "w", ",": ".", ".": ",", ":": ".", "e": "c", "c": "e", "t": "f", "G": "6", "'": "`",
}  # fmt: skip


@dataclass(frozen=True)
class Faults:
    """How often; of words, in a page that has faults at all. Chosen here, after a look at PP-OCRv4's output."""

    letter: float = 0.03  # a letter is taken for one that looks alike
    lost: float = 0.01
    joined: float = 0.12  # with the next word of the line


def misread(
    words: Sequence[Word], kept: Collection[str], rng: np.random.Generator, faults: Faults = Faults()
) -> list[Word]:
    """The words as OCR might have them.

    Args:
        words: in reading order.
        kept: texts that stay whole, because an answer is made of them.
    """
    found: list[Word] = []
    for word in words:
        if word.text not in kept:
            if rng.random() < faults.lost:
                continue
            if rng.random() < faults.letter:
                word = Word(_taken_for(word.text, rng), word.box)
        if found and rng.random() < faults.joined and _beside(found[-1], word):
            before = found.pop()
            word = Word(before.text + word.text, around([before.box, word.box]))
        found.append(word)
    return found


def _taken_for(text: str, rng: np.random.Generator) -> str:
    places = [(at, old) for old in _ALIKE for at in range(len(text)) if text.startswith(old, at)]
    if not places:
        return text
    at, old = places[rng.integers(len(places))]
    return text[:at] + _ALIKE[old] + text[at + len(old) :]


def _beside(left: Word, right: Word) -> bool:
    """Whether a word follows in the same line, no farther than a space."""
    height = left.box[3] - left.box[1]
    level = abs(left.box[1] + left.box[3] - right.box[1] - right.box[3]) < height
    return level and -0.2 * height < right.box[0] - left.box[2] < 0.6 * height
