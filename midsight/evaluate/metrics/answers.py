"""Answers in a few words against gold answers: ANLS of documents, relaxed accuracy of charts. Scores from 0 to 1."""

from collections.abc import Sequence

from midsight.errors import InputError

ANLS_THRESHOLD = 0.5  # similarities below it count as nothing
CHART_TOLERANCE = 0.05  # of the gold number


def anls(answer: str, golds: Sequence[str], threshold: float = ANLS_THRESHOLD) -> float:
    """Normalised Levenshtein similarity to the nearest gold answer; 0 where it is below the threshold.

    Case and repeated white space do not count.

    Raises:
        InputError: no gold answer.

    Source: Biten et al. 2019, scene text visual question answering; as DocVQA and InfographicVQA score answers: the
    distance is divided by the length of the longer text as it was written.
    """
    if not golds:
        raise InputError("there is nothing to compare with: no gold answer")
    best = max(_similarity(answer, gold, threshold) for gold in golds)
    return best if best >= threshold else 0.0


def relaxed_accuracy(answer: str, gold: str, tolerance: float = CHART_TOLERANCE) -> float:
    """1 where both are numbers no further apart than the tolerance, or the same text in any case; else 0.

    Args:
        tolerance: part of the gold number. "12%" is the number 0.12; "1,000" is none; a gold 0 is compared as text.

    Source: ChartQA (Masry et al. 2022), 5.1, and the field's common code for it.
    """
    given, wanted = _number(answer), _number(gold)
    if given is not None and wanted:
        return float(abs(given - wanted) / abs(wanted) <= tolerance)
    return float(answer.strip().lower() == gold.strip().lower())


def levenshtein(a: str, b: str) -> int:
    """Fewest letters to put in, leave out or exchange that make one text the other."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    return row[-1]


def _similarity(answer: str, gold: str, threshold: float) -> float:
    longest = max(len(answer), len(gold))
    if longest == 0:
        return 1.0
    a, b = (" ".join(text.lower().split()) for text in (answer, gold))
    if 1 - abs(len(a) - len(b)) / longest < threshold:
        return 0.0  # the lengths alone say so, which spares long answers
    return 1 - levenshtein(a, b) / longest


def _number(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
