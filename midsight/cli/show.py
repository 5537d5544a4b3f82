"""How the command line speaks: results to stdout, all else to stderr, nothing raw that could steer a terminal."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 1000  # columns where no terminal says how many there are: lines of files and pipes are not folded


@cache
def out() -> Console:
    """Standard output."""
    return _console(sys.stdout.isatty(), stderr=False)


@cache
def err() -> Console:
    """Standard error: messages, failures, progress."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(terminal: bool, *, stderr: bool) -> Console:
    width = None if terminal or os.environ.get("COLUMNS") else WIDTH_OF_A_PIPE
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def safe(text: object) -> str:
    """The text with control characters, bidirectional marks and undecodable bytes written as escapes.

    File names and labels come from outside; raw, they could move the cursor, change the title or hide what they say.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def safe_lines(text: object) -> str:
    """As `safe`, but line breaks stay: for messages of the library."""
    return "\n".join(safe(line) for line in str(text).split("\n"))


def warn(message: object, style: str = "yellow") -> None:
    """One message to stderr."""
    err().print(Text(safe_lines(message), style=style), soft_wrap=True)


def fail(message: object) -> None:
    """One error to stderr."""
    err().print(Text.assemble(("error: ", "bold red"), safe_lines(message)), soft_wrap=True)


def json_line(record: dict[str, Any]) -> None:
    """One JSON object on a line of stdout, in ASCII, so that no terminal, locale or file name can break it."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), header: bool = True
) -> None:
    """A table for people; long cells are folded, never cut.

    Args:
        columns: headings.
        rows: cells; `Text` stays as it is, anything else is made safe.
        right: headings of the columns that are aligned to the right.
        header: show the headings.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold", show_header=header, padding=(0, 2, 0, 0))
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    out().print(grid)


class _Rate(ProgressColumn):
    """Finished items a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s", style="progress.data.speed")


def progress() -> Progress:
    """A bar with rate and remaining time on stderr; nothing at all where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
        disable=not err().is_terminal,
    )


def note(message: object) -> None:
    """One line of information to stderr."""
    warn(message, style="")


@contextmanager
def status(message: str) -> Iterator[None]:
    """A sign of life on stderr while something takes long; nothing where stderr is no terminal."""
    if not err().is_terminal:
        yield
        return
    with err().status(Text(safe(message))):
        yield


def failures(failed: int, total: int) -> None:
    """Says how many inputs failed, and leaves with exit code 1 if any did."""
    if failed:
        warn(f"{failed} of {total} could not be read")
        raise typer.Exit(1)
