"""Answers that are copied from a page: spans ranked by the words around them, then by a language model.

A language model's own answer can be held against them: a small model is often right about a page like those that it
learnt from, and wrong about others in ways that the words around its answer tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from midsight.library.documents import prompts
from midsight.library.documents.evidence import find_words, spelt
from midsight.library.documents.layout import Line
from midsight.library.documents.matching import Matcher
from midsight.library.documents.pages import Page
from midsight.library.documents.scoring import log_likelihoods
from midsight.library.documents.spans import Span, labels, spans
from midsight.library.documents.tables import compared
from midsight.plm.answer import Page as ReadMedia
from midsight.plm.boxes import Box
from midsight.plm.model import PLM

CANDIDATES = 24  # spans that the model may be asked about
CLOSE = 0.2  # spans that match so much less than the best are not asked about
MODEL_WEIGHT = 0.025  # of the model's log likelihood beside the match
PRIOR_WEIGHT = 0.7  # of what the model would say to any question, which is taken off
ANY_QUESTION = "What?"
COMPARED = 1.5  # what a span gains that a comparison gives
LABEL = 0.2  # what the name of another loses
PAGE_STEP = 0.1  # what a span loses for each page that is likelier than its own
# beside a written answer; chosen on the part "choose" of the pages in benchmarks/pages
WEIGHED = 24  # spans
LIKELY_WEIGHT = 0.045  # of the log likelihood that the model writes a span
WRITTEN = 0.1  # what the answer that it did write gains,
NOWHERE = 0.3  # and loses where no page has its words
HOLDING = 25  # words, at most, of a span that it can be a part of
REMEMBERED = 8  # pages whose spans are kept


@dataclass(frozen=True)
class Extract:
    """Words copied from a page."""

    text: str
    page: Page | None  # None: yes or no, which stands on no page
    boxes: tuple[Box, ...] = ()


@lru_cache(maxsize=REMEMBERED)
def _spans(lines: tuple[Line, ...]) -> tuple[Span, ...]:
    """The spans of a page, found once for all that is asked about it."""
    return tuple(spans(lines))


def compared_on(pages: Sequence[Page], question: str) -> Extract | None:
    """What a comparison gives on the first page where it gives something; None for other questions."""
    for page in pages:
        for span in compared(question, _spans(page.lines)):
            return Extract(span.text, page, tuple(span.boxes))
    return None


def _denial(pages: Sequence[Page], matcher: Matcher) -> Extract | None:
    """No, where a page says what is asked with a word that denies it: a small model reads over that."""
    for page in pages:
        if (span := matcher.denied(_spans(page.lines))) is not None:
            return Extract("No", page, tuple(span.boxes))
    return None


class Extractor:
    """Picks the span of some pages that answers a question.

    Args:
        model: with its tokenizer.
    """

    def __init__(self, model: PLM) -> None:
        assert model.tokenizer is not None
        self.model, self.tokenizer = model, model.tokenizer
        self._held = ReadMedia([], [])  # texts of pages, which stand before the questions about them

    def extract(self, pages: Sequence[Page], question: str, text: str) -> Extract:
        """The best span; an empty one where the pages have none.

        Args:
            pages: the likeliest first.
            question: what is asked.
            text: of the pages, as the model is to read it.
        """
        matcher = Matcher(question, [line for page in pages for line in page.lines])
        if matcher.look == "yes_no":
            yes, no = self._gains(text, question, ("Yes", "No"))
            return Extract("Yes" if yes >= no else "No", None)
        ranked = self._ranked(pages, matcher)
        if not ranked:
            return Extract("", pages[0] if pages else None)
        scores = [score for score, _, _ in ranked]
        if len(ranked) > 1:
            gains = self._gains(text, question, [span.text for _, span, _ in ranked])
            scores = [score + MODEL_WEIGHT * gain for score, gain in zip(scores, gains, strict=True)]
        _, span, page = ranked[max(range(len(scores)), key=scores.__getitem__)]
        return Extract(span.text, page, tuple(span.boxes))

    def weigh(
        self, pages: Sequence[Page], question: str, prompt: Sequence[int], written: str, held: ReadMedia
    ) -> Extract | None:
        """The span that answers better than what the model wrote, or the span that it wrote; None where it stays.

        Args:
            pages: the likeliest first.
            question: what is asked.
            prompt: ids behind which the model wrote.
            written: its answer.
            held: what the model was asked about, with its cache.
        """
        matcher = Matcher(question, [line for page in pages for line in page.lines])
        if matcher.look == "yes_no":
            return _denial(pages, matcher)
        if not spelt(written):
            return None
        every = self._scored(pages, matcher)
        own = next((entry for entry in every if spelt(entry[1].text) == spelt(written)), None)
        own = own or self._part(pages, matcher, written)
        few = every[:WEIGHED] if own is None or own in every[:WEIGHED] else [*every[:WEIGHED], own]
        ids = [self.tokenizer.encode(text) for text in (*(span.text for _, span, _ in few), written)]
        *likely, as_written = log_likelihoods(self.model, prompt, ids, self.model.config.stop_token_ids[0], held)
        scores = [
            entry[0] + LIKELY_WEIGHT * chance + WRITTEN * (entry is own)
            for entry, chance in zip(few, likely, strict=True)
        ]
        if own is None:
            lost = 0.0 if find_words(written, pages, question) else NOWHERE
            if matcher.fits(written) - lost + LIKELY_WEIGHT * as_written + WRITTEN >= max(scores, default=-math.inf):
                return None
        _, span, page = few[max(range(len(scores)), key=scores.__getitem__)]
        return Extract(span.text, page, tuple(span.boxes))

    def _part(self, pages: Sequence[Page], matcher: Matcher, written: str) -> tuple[float, Span, Page] | None:
        """What the model wrote, as a part of the span that has it and fits best; None where no span does."""
        found = [
            (matcher.score(part := replace(span, text=written, whole=False)) - PAGE_STEP * order, part, page)
            for order, page in enumerate(pages)
            for span in _spans(page.lines)
            if len(span.words) <= HOLDING and spelt(written) in spelt(span.text)
        ]
        if not found:
            return None
        score, part, page = max(found, key=lambda entry: entry[0])
        boxes = find_words(written, [page], matcher.question)
        words = [word for word in part.words if any(_inside(word.box, shown.box) for shown in boxes)]
        return score, replace(part, words=tuple(words) or part.words), page

    def _ranked(self, pages: Sequence[Page], matcher: Matcher) -> list[tuple[float, Span, Page]]:
        """The spans that match about as well as the best."""
        few = self._scored(pages, matcher)[:CANDIDATES]
        return [entry for entry in few if entry[0] >= few[0][0] - CLOSE]

    def _scored(self, pages: Sequence[Page], matcher: Matcher) -> list[tuple[float, Span, Page]]:
        """All spans by the words around them, the best first, each text once."""
        found = []
        for order, page in enumerate(pages):
            here = _spans(page.lines)
            won, names = compared(matcher.question, here), labels(page.lines, here)
            for span in here:
                extra = COMPARED * any(span is other for other in won) - LABEL * (span.text in names)
                found.append((matcher.score(span) + extra - PAGE_STEP * order, span, page))
        best: dict[str, tuple[float, Span, Page]] = {}
        for entry in sorted(found, key=lambda entry: -entry[0]):
            best.setdefault(entry[1].text, entry)
        return list(best.values())

    def _gains(self, text: str, question: str, answers: Sequence[str]) -> list[float]:
        """How much likelier the question makes each answer."""
        end = self.tokenizer.encode("\n")[0]
        ids = [self.tokenizer.encode(f" {answer}") for answer in answers]
        asked, unasked = (
            log_likelihoods(
                self.model, self.tokenizer.encode(prompts.scoring_prompt(text, words)), ids, end, self._held
            )
            for words in (question, ANY_QUESTION)
        )
        return [a - PRIOR_WEIGHT * b for a, b in zip(asked, unasked, strict=True)]


def _inside(box: Box, other: Box) -> bool:
    """Whether the middle of a box lies in another."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return other[0] <= x <= other[2] and other[1] <= y <= other[3]
