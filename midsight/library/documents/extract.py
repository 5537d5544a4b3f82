"""Answers that are copied from a page: spans ranked by the words around them, then by a language model."""

from collections.abc import Sequence
from dataclasses import dataclass

from midsight.library.documents import prompts
from midsight.library.documents.matching import Matcher
from midsight.library.documents.pages import Page
from midsight.library.documents.scoring import log_likelihoods
from midsight.library.documents.spans import Span, labels, spans
from midsight.library.documents.tables import compared
from midsight.plm.boxes import Box
from midsight.plm.model import PLM

CANDIDATES = 24  # spans that the model may be asked about
CLOSE = 0.2  # spans that match so much less than the best are not asked about
MODEL_WEIGHT = 0.025  # of the model's log likelihood beside the match
PRIOR_WEIGHT = 0.7  # of what the model would say to any question, which is taken off
ANY_QUESTION = "What?"
COMPARED = 1.5  # what a span gains that a comparison gives
LABEL = 0.3  # what the name of another loses
PAGE_STEP = 0.1  # what a span loses for each page that is likelier than its own


@dataclass(frozen=True)
class Extract:
    """Words copied from a page."""

    text: str
    page: Page | None  # None: yes or no, which stands on no page
    boxes: tuple[Box, ...] = ()


def compared_on(pages: Sequence[Page], question: str) -> Extract | None:
    """What a comparison gives on the first page where it gives something; None for other questions."""
    for page in pages:
        for span in compared(question, spans(page.lines)):
            return Extract(span.text, page, tuple(span.boxes))
    return None


class Extractor:
    """Picks the span of some pages that answers a question.

    Args:
        model: with its tokenizer.
    """

    def __init__(self, model: PLM) -> None:
        assert model.tokenizer is not None
        self.model, self.tokenizer = model, model.tokenizer

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

    def _ranked(self, pages: Sequence[Page], matcher: Matcher) -> list[tuple[float, Span, Page]]:
        """The best spans by the words around them, each text once."""
        found = []
        for order, page in enumerate(pages):
            here = spans(page.lines)
            won, names = compared(matcher.question, here), labels(page.lines, here)
            for span in here:
                extra = COMPARED * any(span is other for other in won) - LABEL * (span.text in names)
                found.append((matcher.score(span) + extra - PAGE_STEP * order, span, page))
        best: dict[str, tuple[float, Span, Page]] = {}
        for entry in sorted(found, key=lambda entry: -entry[0]):
            best.setdefault(entry[1].text, entry)
        few = list(best.values())[:CANDIDATES]
        return [entry for entry in few if entry[0] >= few[0][0] - CLOSE]

    def _gains(self, text: str, question: str, answers: Sequence[str]) -> list[float]:
        """How much likelier the question makes each answer."""
        end = self.tokenizer.encode("\n")[0]
        ids = [self.tokenizer.encode(f" {answer}") for answer in answers]
        asked, unasked = (
            log_likelihoods(self.model, self.tokenizer.encode(prompts.scoring_prompt(text, words)), ids, end)
            for words in (question, ANY_QUESTION)
        )
        return [a - PRIOR_WEIGHT * b for a, b in zip(asked, unasked, strict=True)]
