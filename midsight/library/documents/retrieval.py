"""Which of many pages matter to a question: by their words (BM25), and by their looks where they have no words.

Source: BM25 in the variant of Lucene, by the package bm25s; k1 and b are its defaults.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import MissingDependencyError

INSTALL = "pip install 'midsight[documents]'"
PIECE_WORDS, PIECE_STEP = 120, 60  # of the pieces of a page that are ranked beside the whole page
_STOP = frozenset(re.findall(r"\w+", """
    a an and are as at be by can did do does for from has have how i if in into is it its me my of on or so such tell
    than that the their them then there these this to use used using was we were what when where which who whom whose
    why will with would you your page document
"""))  # fmt: skip
_TERM = re.compile(r"[^\W_]+(?:[.\-'/][^\W_]+)*")


class PageIndex:
    """Pages by their words.

    Args:
        texts: of the pages; empty where a page has none.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.count = len(texts)
        pieces = [(page, piece) for page, text in enumerate(texts) for piece in _pieces(terms(text))]
        self._page_of = np.array([page for page, _ in pieces], np.int64)
        self._vocabulary = {term: i for i, term in enumerate(dict.fromkeys(t for _, piece in pieces for t in piece))}
        self._index = _bm25([[self._vocabulary[t] for t in piece] for _, piece in pieces], self._vocabulary)

    def scores(self, question: str) -> npt.NDArray[np.float32]:
        """BM25 of the best piece of each page, float32 (pages,); 0 where no word is shared."""
        asked = [self._vocabulary[term] for term in terms(question) if term in self._vocabulary]
        scores = np.zeros(self.count, np.float32)
        if asked and self._index is not None:
            np.maximum.at(scores, self._page_of, self._index.get_scores_from_ids(asked))
        return scores


def terms(text: str) -> list[str]:
    """Words of a text as they are compared: lower case, without accents, endings and the words that every text has."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    found = []
    for match in _TERM.finditer(plain):
        whole = match.group()
        parts = re.split(r"[.\-'/]", whole)
        found += [stem(t) for t in dict.fromkeys((whole, *parts)) if t not in _STOP and (len(t) > 1 or t.isdigit())]
    return found


def stem(word: str) -> str:
    """A word without its English ending, so that plurals and verbs meet; our own, short rules."""
    for ending, least, instead in (("ies", 3, "y"), ("sses", 3, "ss"), ("ing", 4, ""), ("ed", 4, ""), ("es", 4, "e")):
        if word.endswith(ending) and len(word) - len(ending) >= least:
            word = word[: -len(ending)] + instead
            break
    else:
        if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def fuse(*rankings: npt.NDArray[np.float32], k: int = 60) -> npt.NDArray[np.float32]:
    """Reciprocal rank fusion: one score of several that cannot be compared; a score of 0 takes no part.

    Source: Cormack, Clarke and Buettcher, SIGIR 2009; k as there.
    """
    fused = np.zeros(len(rankings[0]), np.float32)
    for scores in rankings:
        order = np.argsort(-scores, kind="stable")
        shown = order[scores[order] > 0]
        fused[shown] += 1 / (k + 1 + np.arange(len(shown), dtype=np.float32))
    return fused


def best(scores: npt.NDArray[np.float32], most: int) -> list[int]:
    """Indices of the highest scores, best first, earlier pages first among equals."""
    return [int(i) for i in np.argsort(-scores, kind="stable")[:most]]


def _pieces(words: list[str]) -> list[list[str]]:
    """The page, and stretches of it where it is long: a passage about something outweighs a page that mentions it."""
    if len(words) <= PIECE_WORDS:
        return [words] if words else []
    return [words, *(words[at : at + PIECE_WORDS] for at in range(0, len(words) - PIECE_STEP, PIECE_STEP))]


def _bm25(pieces: list[list[int]], vocabulary: dict[str, int]) -> Any:
    if not pieces:
        return None
    try:
        import bm25s
    except ImportError as error:
        raise MissingDependencyError(f"pages are ranked by bm25s, which is not installed: {INSTALL}") from error
    index = bm25s.BM25()
    index.index((pieces, vocabulary), show_progress=False)
    return index
