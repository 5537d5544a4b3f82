"""Asking a model all questions, one by one: answers go to a journal at once, so that a stopped run goes on."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midsight.errors import InputError, MediaError, MidsightError, OutputError
from midsight.evaluate.language.question import Answerer, Question
from midsight.evaluate.language.regions import mark_frames
from midsight.files import Journal

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Answer:
    """What a model said to a question, or why it said nothing."""

    question: Question
    text: str | None
    error: str | None = None
    before: bool = False  # from an earlier run


def ask_all(
    questions: Sequence[Question], model: Answerer, out: Path | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[Answer]:
    """The model's answers in the order of the questions; those in the journal are not asked again.

    A question whose media cannot be read, or that does not fit into the model, has an error; the next run asks again.

    Args:
        out: folder of `answers.jsonl`, is made; None keeps nothing.
        settings: what the answers depend on; a journal of other settings is refused.

    Raises:
        InputError: the journal belongs to another run.
        OutputError: it cannot be written, or another process is writing it.
    """
    with ExitStack() as stack:
        journal = None
        known: dict[str, str] = {}
        if out is not None:
            journal, known = _open(out, dict(settings or {}))
            stack.enter_context(journal)
        for question in questions:
            if question.id in known:
                yield Answer(question, known[question.id], before=True)
                continue
            answer = ask(question, model)
            if journal is not None:
                key, value = ("answer", answer.text) if answer.error is None else ("error", answer.error)
                journal.append({"id": question.id, key: value})
            yield answer


def ask(question: Question, model: Answerer) -> Answer:
    """One answer; failures of the question are in it, all other errors are raised."""
    try:
        if question.missing:
            raise MediaError(f"{question.missing[0]}: there is no such file")
        if question.regions is None:
            return Answer(question, model.answer(question.media, question.prompt))
        with tempfile.TemporaryDirectory() as folder:
            frames = mark_frames(question.media[0], question.regions, Path(folder))
            return Answer(question, model.answer(frames, question.prompt))
    except (MediaError, InputError) as error:
        return Answer(question, None, str(error))


def answered(out: Path) -> dict[str, str]:
    """The answers in a folder's journal by question."""
    return {record["id"]: record["answer"] for record in Journal(out / ANSWERS) if "answer" in record}


def check_journal(out: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder has a journal of these settings.

    Raises:
        InputError: it has one of others.
    """
    first = next(iter(Journal(out / ANSWERS)), None)
    if first is None:
        return False
    found = first.get("settings")
    if not isinstance(found, dict):
        raise InputError(f"{out / ANSWERS}: is no journal of an evaluation. Name another folder")
    for name, value in settings.items():
        if found.get(name) != value:
            raise InputError(
                f"{out / ANSWERS}: holds answers of another run ({name} was {found.get(name)!r}, is {value!r}). Name "
                "another folder, or delete the file"
            )
    return True


def _open(out: Path, settings: dict[str, Any]) -> tuple[Journal, dict[str, str]]:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror or error}). Name another folder.") from error
    there = check_journal(out, settings)
    journal = Journal(out / ANSWERS)
    try:
        if not there:
            journal.append({"settings": settings})
        return journal, answered(out)
    except MidsightError:
        journal.close()
        raise
