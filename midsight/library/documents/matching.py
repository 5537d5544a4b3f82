"""How well a span fits a question by the words around it and by its look, before any model is asked."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal

from midsight.library.documents.layout import Line, Word
from midsight.library.documents.retrieval import terms
from midsight.library.documents.spans import Span
from midsight.library.documents.wording import alike, expanded, in_small_words, label_terms

Look = Literal[
    "date", "money", "number", "name", "firm", "address", "time", "duration", "weight", "email", "phone", "percent",
    "title", "yes_no", "any",
]  # fmt: skip

_MOSTLY = 0.5  # of the words of a question: so much of it a sentence must say that denies it
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\bin \d+ (?:day|week|month|year)s?\b|"
    rf"\b\d{{1,4}}[./-](\d{{1,2}}|{_MONTHS})[./-]\d{{1,4}}\b"
    rf"|\b({_MONTHS})[a-z]*\.?,?\s+\d{{1,2}}(,?\s+\d{{4}})?|\d{{1,2}}\.?\s+({_MONTHS})[a-z]*\.?(,?\s+\d{{4}})?",
    re.I,
)
_YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
_DENIES = re.compile(
    r"\b(?:no|not|none|never|without|neither|nor|cannot|excluded|excluding|forbidden|prohibited|except|closed)\b|n't\b",
    re.I,
)
_MONEY = re.compile(
    r"([$\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}\N{INDIAN RUPEE SIGN}]|\b(usd|eur|gbp|chf|kr|zl|dollars?|euros?)\b)",
    re.I,
)
_DURATION = re.compile(
    r"\d\s?(?:s|secs?|seconds?|min|mins?|minutes?|minuten|h|hrs?|hours?|std|stunden|days?|tage|giorni|jours|weeks?|wochen"
    r"|months?|monate|years?|yrs?|jahre)\b",
    re.I,
)
_WEIGHT = re.compile(r"\d\s?(?:mg|g|kg|t|lbs?|oz|tons?|tonnes?|pounds?)\b", re.I)
_TIME = re.compile(r"\b\d{1,2}[:.]\d\d\b|\b\d{1,2}\s?(am|pm)\b", re.I)
_STREET = re.compile(
    r"\b(street|road|lane|avenue|drive|court|square|st|rd|ave|rue|via|calle"
    r"|\w*stra(ss|\N{LATIN SMALL LETTER SHARP S})e)\b",
    re.I,
)
_FIRM = re.compile(
    r"\b(inc|ltd|llc|llp|plc|gmbh|ag|co|corp|company|group|sons|bros|s\.?a|s\.?r\.?l|b\.?v)\b\.?"
    r"|\b[A-Z]\w+-[A-Z]\w+|\w, \w+ (and|&) \w",
    re.I,
)
_AMOUNT = re.compile(r"^\d[\d ,.']*[.,]\d\d$")
_QUOTED = re.compile(r"[\"\N{LEFT DOUBLE QUOTATION MARK}](.{2,80}?)[\"\N{RIGHT DOUBLE QUOTATION MARK}]")
_MAY = re.compile(r"^\W*may\b", re.I)  # no month there
_GRID = re.compile(r"\b(column|row)s?\b", re.I)
_BEGINS = re.compile(r"\b(start|starts|starting|begin|begins|beginning)\b", re.I)
_DOWNWARDS = re.compile(r"\b(below|under|underneath|beneath|after|follows|following)\b", re.I)
_COUNT = re.compile(r"^\d[\d.,]*( ?[a-z]{1,6}\.?)?$", re.I)
_PHONE = re.compile(r"^[+(]?\d[\d\s()./-]{5,}\d$")
_LOOKS: tuple[tuple[str, Look], ...] = (
    (r"^(is|are|am|was|were|does|do|did|has|have|had|can|could|may|must|will|would|should)\b", "yes_no"),
    (
        r"\bhow long\b|\bhow much (later|longer|time|earlier)\b|\bhow many (days|weeks|months|hours|minutes)\b",
        "duration",
    ),
    (r"\bhow heavy\b|\bhow much\b.*\bweigh|\bwhat\b.*\bweight\b", "weight"),
    (r"^(why|where|how)\b(?! (much|many|old)\b)", "any"),
    (r"\b(e-?mail)\b", "email"),
    (r"\b(tele)?phone\b", "phone"),
    (r"\b(what|which|at what) time\b", "time"),
    (r"\b(title|heading|headline|kind of (form|document|page|letter)|type of document)\b", "title"),
    (r"\b(address|street|city|town)\b", "address"),
    (r"\b(company|firm|organi[sz]ation|seller|vendor|supplier|employer|employs|shop|store)\b", "firm"),
    (r"\b(when|what date|which date|date|deadline|what day|which day)\b", "date"),
    (r"\b(percent|percentage|what share)\b", "percent"),
    (r"\bhow many\b|\bquantity\b|\bhow old\b|\bwhat year\b|\bwhich year\b", "number"),
    (r"\b(how much|price|cost|total|subtotal|amount|balance|salary|fee|tax|vat)\b", "money"),
    (r"^(who|whom|whose|to whom|for whom)\b|\b(person|author|name of|customer|recipient|sender)\b", "name"),
    (r"\bwhich (doctor|physician|speaker|manager|candidate)\b", "name"),
)


def wanted_look(question: str) -> Look:
    """What kind of answer a question wants, as far as its words tell."""
    asked = question.strip().lower()
    return next((look for pattern, look in _LOOKS if re.search(pattern, asked)), "any")


def has_look(text: str, look: Look) -> float:
    """How much a text looks so, 0 to 1."""
    return float(_CHECKS[look](text)) if look in _CHECKS else 0.0


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _is_date(text: str) -> float:
    """A whole date more than one without its year, and that more than a year alone."""
    year = _YEAR.search(text)
    return max(_share(_DATE.search(text), text) * (1.0 if year else 0.9), 0.6 * _share(year, text))


def _letters(text: str) -> int:
    return sum(c.isalpha() for c in text)


def _share(match: re.Match[str] | None, text: str) -> float:
    """How much of a text a match takes; 1 from 85 percent on."""
    return 0.0 if match is None else min(1.0, len(match.group()) / (0.85 * len(text)))


def _is_money(text: str) -> float:
    if len(text) > 25 or not _digits(text) or _DATE.search(text) or _PHONE.match(text):
        return 0.0
    return 1.0 if _MONEY.search(text) else 0.6 if _AMOUNT.match(text) else 0.4 * (_digits(text) > _letters(text))


def _is_name(text: str) -> bool:
    capitals = [word[:1].isupper() for word in text.split()]
    return not _digits(text) and len(capitals) <= 6 and sum(capitals) > len(capitals) / 2


def _is_address(text: str) -> bool:
    numbered = 0 < _digits(text) < _letters(text) or bool(_STREET.search(text))
    return numbered and 2 <= len(text.split()) <= 8


def _is_firm(text: str) -> float:
    return 1.0 if _FIRM.search(text) and len(text.split()) <= 7 else 0.3 * _is_name(text)


_CHECKS: dict[Look, Callable[[str], float]] = {
    "date": lambda text: _is_date(text),
    "money": _is_money,
    "number": lambda text: bool(_COUNT.match(text)),
    "percent": lambda text: "%" in text and _digits(text) > 0 and len(text) < 12,
    "email": lambda text: "@" in text and " " not in text,
    "phone": lambda text: bool(_PHONE.match(text)),
    "time": lambda text: bool(_TIME.search(text)) and len(text) < 20,
    "duration": lambda text: max(float(bool(_DURATION.search(text)) and len(text) < 30), 0.5 * _is_date(text)),
    "weight": lambda text: bool(_WEIGHT.search(text)) and len(text) < 30,
    "address": _is_address,
    "firm": _is_firm,
    "name": _is_name,
}


class Matcher:
    """Scores of spans for one question.

    Args:
        question: what is asked.
        lines: of the pages that the spans come from.
    """

    def __init__(self, question: str, lines: Sequence[Line]) -> None:
        self.question, self.look = question, wanted_look(question)
        self.asked = list(dict.fromkeys(terms(_MAY.sub("", question))))
        cells = ([" ".join(word.text for word in cell) for cell in line.cells] for line in lines)
        seen = Counter(term for line in cells for term in {term for cell in line for term in label_terms(cell)})
        if self.look == "name" and "name" not in self.asked:
            self.asked.append("name")  # what such labels say
        meant = dict.fromkeys(in_small_words(question))
        self.asked += [term for term in meant if seen[term] and term not in self.asked]
        self._known = expanded(question) | set(self.asked)
        self.weight = {t: 1 / (1 + seen[t]) ** 0.5 if seen[t] else 0.35 for t in self.asked}
        self.total = sum(self.weight.values()) or 1.0
        self._height = median([_height(line.words) for line in lines]) if lines else 1.0
        self._near = 0.95 if _DOWNWARDS.search(question) else 0.4  # of the cell right above, where there is a head
        quoted = _QUOTED.search(question)
        self._quoted = quoted.group(1).strip(" .:").lower() if quoted else ""
        self._names = bool(quoted) and not _GRID.search(question)  # what is quoted is a label
        self._begins = bool(quoted and _BEGINS.search(_QUOTED.sub("", question)))

    def score(self, span: Span) -> float:
        """How well a span fits; about -1 to 2."""
        own = set(label_terms(span.text))
        beside = [set(label_terms(key)) for key in span.beside]
        above = [set(label_terms(key)) for key in span.above]
        head = [set(label_terms(key)) for key in (span.head, *span.over) if key]
        under = [set(label_terms(key)) for key in span.under]
        row = [set(label_terms(key)) for key in span.row]
        around = set(label_terms(span.around))
        covered = sum(
            self.weight[t]
            * self._found(
                t, ((beside, 1.0), (head, 0.9), (above, self._near if head else 0.9), (under, 0.6), (row, 0.95)), around
            )
            for t in self.asked
        )
        shared = [t for t in self.asked if t in own]
        repeated = sum(self.weight[t] for t in shared) * len(shared) / max(1, len(own))
        named = self._names and any(key.strip(" .:").lower() == self._quoted for key in (*span.beside, *span.above))
        covered += 0.5 * self.total * bool(named)
        return (covered - 0.9 * repeated) / self.total + self._shape(span) + (0.1 if span.whole else 0.0)

    def denied(self, found: Sequence[Span]) -> Span | None:
        """Of a question for yes or no: the line or sentence that says most of what is asked, where it says not so."""
        best: tuple[float, int, Span | None] = (_MOSTLY * self.total, 0, None)
        for span in found:
            said = set(label_terms(span.around))
            share = sum(self.weight[t] * (t in said or bool(alike(t) & said)) for t in self.asked)
            best = max(best, (share, -len(span.around), span), key=lambda entry: entry[:2])
        nearest = best[2]
        return nearest if nearest is not None and _DENIES.search(nearest.around) else None

    def _shape(self, span: Span) -> float:
        """What the look of the answer that is wanted says about a span."""
        if self._begins:
            starts = span.text.lower().startswith(self._quoted)
            return 1.5 * (starts and len(span.text) > 1.5 * len(self._quoted))
        if self.look == "title":
            larger = _height(span.words) / self._height - 1
            return min(0.8, max(0.0, larger)) + 0.3 / (1 + span.line) - 0.5 * (len(span.words) > 8 or not span.whole)
        return self.fits(span.text)

    def fits(self, text: str) -> float:
        """What the look of a text alone says: up to 0.24 for the look that is wanted, -0.2 for another."""
        if self.look in ("any", "title", "yes_no"):
            return 0.0
        fits = has_look(text, self.look)
        return 0.24 * fits if fits else -0.2

    def _found(self, term: str, keys: Sequence[tuple[Sequence[set[str]], float]], around: set[str]) -> float:
        """How near to a span one of the question's words stands, 0 to 1."""
        like = alike(term)
        best = 0.0
        for labels, value in keys:
            for key in labels:
                share = (
                    0.6 + 0.4 * len(key & self._known) / len(key) if key else 0.0
                )  # a label that says more fits less
                if term in key:
                    best = max(best, value * share)
                elif like & key:
                    best = max(best, 0.75 * value * share)
        return max(best, 0.5 * (term in around))


def _height(words: Sequence[Word]) -> float:
    return median(word.box[3] - word.box[1] for word in words)
