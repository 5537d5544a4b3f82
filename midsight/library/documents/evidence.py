"""Where on its pages an answer stands: the model's own boxes, or the words that spell it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from midsight.library.documents.layout import Word
from midsight.library.documents.pages import Page, PageId
from midsight.library.documents.retrieval import terms
from midsight.library.documents.spans import Span
from midsight.plm.boxes import Box, parse_boxes

LEAST_ALIKE = 0.8  # of an answer and words that are taken to spell it, by difflib
_MOST_WORDS = 60  # of an answer that is looked for
_MARKS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Evidence:
    """A box on a page, x0, y0, x1, y1 in pixels of the page as drawn."""

    page: PageId
    box: Box


def grounded(answer: str, page: Page) -> list[Evidence]:
    """The boxes that a model wrote into its answer; those that lie on the page and have an area."""
    width, height = page.size
    return [Evidence(page.id, box) for box in parse_boxes(answer, width, height)]


def find_words(answer: str, pages: Sequence[Page], question: str = "") -> list[Evidence]:
    """The words that spell an answer, leniently: signs and case do not count, a few letters may differ.

    Of several places the one whose line shares most with the question, on the earlier of `pages`.
    """
    wanted = [part for part in map(spelt, answer.split()) if part]
    if not wanted or len(wanted) > _MOST_WORDS:
        return []
    asked = set(terms(question))
    best: tuple[float, list[Word], PageId] | None = None
    for order, page in enumerate(pages):
        words = [(word, n) for n, line in enumerate(page.lines) for word in line.words]
        for start, length, alike in _runs([spelt(word.text) for word, _ in words], wanted):
            around = page.lines[max(0, words[start][1] - 1) : words[start][1] + 1]
            near = len(asked.intersection(t for line in around for t in terms(line.text)))
            score = alike + 0.1 * near - 0.01 * order
            if best is None or score > best[0]:
                best = score, [word for word, _ in words[start : start + length]], page.id
    if best is None:
        return []
    return [Evidence(best[2], box) for box in Span("", tuple(best[1]), 0).boxes]


def _runs(words: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int, float]]:
    """Stretches of words that are like those wanted: first word, number of words, likeness."""
    whole = "".join(wanted)
    found = []
    for start, word in enumerate(words):
        if not word or (word[0] != whole[0] and not _alike(word, wanted[0])):
            continue
        for length in range(max(1, len(wanted) - 1), len(wanted) + 2):
            text = "".join(words[start : start + length])
            if start + length <= len(words) and text == whole:
                found.append((start, length, 1.0))
            elif len(whole) > 4 and abs(len(text) - len(whole)) <= 0.25 * len(whole):
                alike = SequenceMatcher(None, text, whole).ratio()
                if alike >= LEAST_ALIKE and not (whole.isdigit() or text.isdigit()):
                    found.append((start, length, alike - 0.2))
    return found


def _alike(word: str, other: str) -> bool:
    return len(word) > 2 and SequenceMatcher(None, word, other).ratio() >= LEAST_ALIKE


def spelt(text: str) -> str:
    """Letters and digits of a text in lower case: what two spellings of one answer share."""
    return _MARKS.sub("", text.lower())
