"""Figures of an evaluation with their intervals, and report.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from midsight.errors import InputError
from midsight.evaluate.language.run import Answer
from midsight.evaluate.language.tasks import Task
from midsight.evaluate.metrics.bootstrap import bootstrap
from midsight.files import atomic_write

REPORT = "report.json"


@dataclass(frozen=True)
class Figure:
    """One figure, in percent (CIDEr: times 100), and its 95 % interval over questions."""

    name: str
    value: float
    low: float
    high: float
    count: int  # questions; of multi-binary accuracy those that all their pairs make up


def figures(task: Task, answers: Sequence[Answer], seed: int = 0) -> list[Figure]:
    """The figures of a task, the main one first. A question without an answer counts as wrong.

    Raises:
        InputError: no questions.
    """
    if not answers:
        raise InputError("there is nothing to measure: no questions")
    measured = task.measure([answer.question for answer in answers], [answer.text for answer in answers])
    found = []
    for name, scores in measured.items():
        value, low, high = (100 * float(part[0]) for part in bootstrap(scores[None, :, None], seed=seed))
        found.append(Figure(name, value, low, high, len(scores)))
    return found


def record(found: Sequence[Figure], answers: Sequence[Answer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json holds."""
    lengths = [len(answer.text) for answer in answers if answer.text is not None]
    return {
        **settings,
        "questions": len(answers),
        "figures": [asdict(figure) for figure in found],
        "mean_answer_length": float(np.mean(lengths)) if lengths else 0.0,  # characters
        "failures": [{"id": answer.question.id, "error": answer.error} for answer in answers if answer.error],
    }


def write_report(folder: Path, entries: Mapping[str, Any]) -> Path:
    """Writes report.json.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / REPORT
    with atomic_write(path) as file:
        file.write(json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return path
