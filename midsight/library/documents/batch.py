"""Many questions from a file, answered in order, one JSON object a line; what is stopped goes on where it was."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midsight.errors import InputError, MidsightError, MissingDependencyError, OutputError
from midsight.files import Journal
from midsight.library.documents.ask import DocumentAsker, Reply
from midsight.library.documents.pages import find_documents

MAX_BYTES = 256 * 2**20  # of a file of questions


@dataclass(frozen=True)
class Query:
    """One line of a file of questions."""

    path: str
    question: str


def read_questions(file: Path) -> list[Query]:
    """The lines of a file, each an object with `path` and `question`; empty lines are passed over.

    Raises:
        InputError: the file cannot be read, is empty, or a line is something else.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file}: more than {MAX_BYTES} bytes; cut it into several files")
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{file}: cannot be read ({reason}); expected one JSON object a line") from None
    found = [_query(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise InputError(f'{file}: holds no questions; expected lines such as {{"path": "a.pdf", "question": "..."}}')
    return found


def _query(file: Path, number: int, line: str) -> Query:
    row: Any = None
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("path", "question")):
        raise InputError(f'{file}: line {number} is not an object with the texts "path" and "question": {line[:80]!r}')
    return Query(row["path"], row["question"])


def answer_all(asker: DocumentAsker, queries: Sequence[Query], done: int = 0) -> Iterator[dict[str, Any]]:
    """A record for each question behind the first `done`: the reply's, or `path`, `question` and `error`.

    Raises:
        KeyboardInterrupt: at Ctrl-C; the question that was being answered has no record then.
        MissingDependencyError: something is not installed, which every question would need.
    """
    for query in queries[done:]:
        said = {"path": query.path, "question": query.question}
        try:
            reply = asker.ask(find_documents([query.path]), query.question)
        except (MissingDependencyError, OutputError):
            raise
        except MidsightError as error:
            yield {**said, "error": str(error)}
            continue
        if reply.why == "interrupted":
            raise KeyboardInterrupt
        yield {**said, **record(reply)}


def finished(output: Journal, queries: Sequence[Query]) -> int:
    """How many of the questions an earlier run has answered into `output`.

    Raises:
        OutputError: the file is of other questions.
    """
    count = 0
    for count, row in enumerate(output, start=1):
        if count > len(queries) or Query(row.get("path", ""), row.get("question", "")) != queries[count - 1]:
            raise OutputError(
                f"{output.path}: line {count} answers another question than line {count} of this batch. "
                "Name another output, or throw it away: --restart"
            )
    return count


def record(reply: Reply) -> dict[str, Any]:
    """A reply as plain values: boxes are x0, y0, x1, y1 in pixels of the page as drawn, whose size is beside it."""
    return {
        "answer": reply.answer,
        "pages": [
            {"path": page.id.path, "page": page.id.number, "width": page.size[0], "height": page.size[1]}
            for page in reply.pages
        ],
        "boxes": [
            {"path": e.page.path, "page": e.page.number, "box": [round(value, 1) for value in e.box]}
            for e in reply.boxes
        ],
        "names": [{"name": name.label, "score": round(name.score, 4)} for name in reply.names],
        "seconds": round(reply.seconds, 2),
    }
