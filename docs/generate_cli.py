"""Writes docs/cli.md from what `--help` prints for every command. Run: python docs/generate_cli.py"""

import os
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.testing import CliRunner

from midsight.cli.main import app

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100  # columns
HEAD = """\
# Command line

Written by `python docs/generate_cli.py` from `--help`; do not edit.

Results go to stdout, messages and progress to stderr. Exit codes: 0 all done, 1 some inputs failed or the result could
not be written, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""


def page() -> str:
    """The whole page."""
    sections = [(" ".join(("midsight", *names)), help_text(*names)) for names in every(typer.main.get_command(app))]
    return HEAD + "".join(f"\n## {title}\n\n```text\n{text}\n```\n" for title, text in sections)


def every(command: object, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The command itself, then its commands and theirs."""
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from every(inner, (*names, name))


def help_text(*command: str) -> str:
    """What `midsight COMMAND --help` prints to a terminal of `WIDTH` columns without colours."""
    environment = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    done = CliRunner().invoke(app, [*command, "--help"], prog_name="midsight", env=environment)
    if done.exit_code:
        raise RuntimeError(f"midsight {' '.join(command)} --help ended with exit code {done.exit_code}: {done.output}")
    return "\n".join(line.rstrip() for line in done.output.strip("\n").splitlines()).strip(os.linesep)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
