"""What a document says, before it is drawn: its fields, its questions, and which field answers which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

QuestionKind = Literal[
    "lookup", "date", "amount", "count", "extreme", "difference", "sum", "trend", "yes_no", "read", "transcribe",
    "next_line", "read_box", "locate",
]  # fmt: skip
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclass(frozen=True)
class Question:
    """A question that the page alone answers, with every accepted answer; training learns the first."""

    text: str
    answers: tuple[str, ...]
    kind: QuestionKind
    evidence: tuple[str, ...]  # fields that must be on the page for it to be asked


@dataclass(frozen=True)
class Record:
    """The content of one document.

    A layout that does not show a field is no error: the questions that need it are then not asked.
    """

    fields: Mapping[str, str]  # name -> the text exactly as shown
    questions: Sequence[Question]
    data: Mapping[str, Any] = field(default_factory=dict)  # what layouts need beyond texts: counts, icons, numbers
    names: Mapping[str, str] = field(default_factory=dict)  # field -> how one asks where it is: "the total"
    stacks: Sequence[Sequence[str]] = ()  # fields of which each stands right below the one before it
    reading: Sequence[str] = ()  # every field in reading order, where the whole text is short enough to be asked for


def looked_up(
    fields: Mapping[str, str],
    name: str,
    wordings: Sequence[str],
    kind: QuestionKind = "lookup",
    also: Sequence[str] = (),
) -> list[Question]:
    """One question for each wording whose answer is that field as shown; none where the record lacks the field."""
    if name not in fields:
        return []
    answers = tuple(dict.fromkeys((fields[name], *also)))
    return [Question(wording, answers, kind, (name,)) for wording in wordings]
