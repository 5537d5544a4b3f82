"""Sentences that several kinds ask with, and answers in several forms."""

from collections.abc import Sequence

from midsight.data.documents.record import Question, QuestionKind
from midsight.data.documents.vocabulary import Vocabulary, grouped

_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def counted(number: int) -> tuple[str, ...]:
    """A count in figures and, where small, in words."""
    return (str(number), _SMALL[number]) if number < len(_SMALL) else (str(number),)


def number_forms(value: float, unit: str = "") -> tuple[str, ...]:
    """A number without and with separators, and with its unit."""
    bare = f"{value:g}" if value != int(value) else str(int(value))
    whole = grouped(int(value)) if value == int(value) else bare
    forms = (bare, whole, f"{bare}{unit}", f"{bare} {unit}") if unit else (bare, whole)
    return tuple(dict.fromkeys(forms))


def yes_no(w: Vocabulary, wordings: Sequence[str], truth: bool, evidence: Sequence[str]) -> Question:
    """A question to be answered by Yes or No."""
    return Question(w.pick(wordings), ("Yes",) if truth else ("No",), "yes_no", tuple(evidence))


def asked(
    w: Vocabulary, wordings: Sequence[str], answers: Sequence[str], kind: QuestionKind, evidence: Sequence[str]
) -> Question:
    """One of the wordings."""
    return Question(w.pick(wordings), tuple(dict.fromkeys(answers)), kind, tuple(evidence))


def only_extreme(values: Sequence[float], largest: bool, margin: float = 0.0) -> int | None:
    """The place of the largest or smallest value; None where another comes within the margin."""
    order = sorted(range(len(values)), key=lambda i: -values[i] if largest else values[i])
    if len(order) < 2 or abs(values[order[0]] - values[order[1]]) <= margin:
        return None
    return order[0]
