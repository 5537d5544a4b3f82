"""Questions that compare: the highest, lowest, first or last of a column, of a row of tiles or of a list."""

import re
from collections.abc import Sequence

from midsight.library.documents.numerals import number
from midsight.library.documents.retrieval import terms
from midsight.library.documents.spans import Span
from midsight.library.documents.wording import expanded

_MOST = re.compile(
    r"\b(highest|largest|biggest|greatest|most(?! (?:people|of)\b)|maximum|longest|tallest|heaviest|oldest|dearest)\b",
    re.I,
)
_LEAST = re.compile(r"\b(lowest|smallest|least|fewest|minimum|cheapest|shortest|lightest|youngest)\b", re.I)
_ORDER = re.compile(
    r"\b(?:listed|named|mentioned|stands|comes|appears)\s+(first|last)\b|\b(first|last)\s+(?:entry|row|item)\b", re.I
)
_PRICE = re.compile(r"\b(cheapest|expensive|dearest|costs?)\b", re.I)
_VALUE = re.compile(r"\b(what|which)\s+(is|was)\s+the\s+\w*\s*(value|number|price|amount|figure|share|total)\b", re.I)
_FAR = 40  # lines
_TOTALS = frozenset(
    stem
    for word in ("total", "subtotal", "sum", "tax", "vat", "gst", "net", "balance", "due", "payable", "deposit", "paid")
    for stem in terms(word)
)
_DIGITS = re.compile(r"[\d.,\s+-]")


def compared(question: str, spans: Sequence[Span]) -> list[Span]:
    """The spans that a comparison gives: the entry, or its number where that is asked for; none for other questions."""
    if order := _ORDER.search(question):
        return _by_order(question, spans, (order.group(1) or order.group(2)).lower() == "first")
    if not (_MOST.search(question) or _LEAST.search(question)):
        return []
    column = _column(question, spans)
    if len(column) < 2:
        return []
    extreme = (max if _MOST.search(question) else min)(column, key=lambda span: number(span.text) or 0.0)
    return [extreme] if _VALUE.search(question) else _entry(extreme, spans)


def _column(question: str, spans: Sequence[Span]) -> list[Span]:
    """The numbers of the column that the question speaks of, or else of all tiles and rows of two cells."""
    numbers = [s for s in spans if s.whole and number(s.text) is not None and not _is_sum(s)]
    question += " price" if _PRICE.search(question) else ""
    asked, like = set(terms(question)), expanded(question)
    columns: dict[str, list[Span]] = {}
    for span in numbers:
        if span.head:
            columns.setdefault(span.head, []).append(span)

    def fit(name: str) -> tuple[float, int]:
        words = terms(name)
        return sum(1.0 if w in asked else 0.6 if w in like else -0.2 for w in words), len(columns[name])

    best = max(columns, key=fit, default="")
    if best and fit(best)[0] > 0:
        return columns[best]
    return _of_one_kind([span for span in numbers if span.under or span.beside])


def _of_one_kind(numbers: Sequence[Span]) -> list[Span]:
    """Of numbers that stand in no column with a name: those that most are like, by their unit and their labels."""
    kinds = [(_DIGITS.sub("", span.text), span.under == (), not span.under and len(span.beside)) for span in numbers]
    most = max(kinds, key=kinds.count, default=None)
    return [span for span, kind in zip(numbers, kinds, strict=True) if kind == most]


def _is_sum(span: Span) -> bool:
    return bool(_TOTALS.intersection(t for key in (*span.beside, span.text) for t in terms(key)))


def _entry(value: Span, spans: Sequence[Span]) -> list[Span]:
    """What a number belongs to: the head of its row, or the text of its tile."""
    names = (*value.beside[-1:], *value.under, *value.beside, *value.above)
    for name in names:
        near = _FAR if name in value.under else 2  # the axis of a chart is below all of its bars
        here = [s for s in spans if s.text == name and abs(s.line - value.line) <= near and number(name) is None]
        if here:
            return here[:1]
    return []


def _by_order(question: str, spans: Sequence[Span], first: bool) -> list[Span]:
    """The first or last entry of the column whose head the question names, else of the first column of a table."""
    asked = expanded(question)
    cells = [s for s in spans if s.whole and s.head and not _is_sum(s)]
    column = [s for s in cells if asked.intersection(terms(s.head))] or [s for s in cells if not s.beside]
    return [min(column, key=lambda s: s.line) if first else max(column, key=lambda s: s.line)] if column else []
