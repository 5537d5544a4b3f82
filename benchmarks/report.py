"""`RESULTS.md`: a head with the machine and all goals, then a section for each question. Nothing else writes it."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
MARK = re.compile(r"^<!-- question: (\w+) -->$", re.MULTILINE)
ELSEWHERE = (
    "tracking",
    "trunk",
    "plm",
    "quantised",
    "gpu",
)  # measured on a machine of its own, which the section names
MACHINE = re.compile(r"<!-- machine -->\n(.*?)\n<!-- /machine -->", re.DOTALL)

HEAD = """# Benchmarks

Written by `python -m benchmarks`; do not edit. `python -m benchmarks image text` measures only those questions again.

midsight stands beside its peers in one process, with the same weights (random ones, drawn anew; outputs are compared
before anything is timed) and the same inputs. All candidates take turns, A B C A B C; a sample lasts 0.1 s or more.
Unless a section says otherwise: one thread on one CPU, CPU time. `1.34x timm (1.29-1.38, 15 rounds)` is the median of
the ratios of paired rounds with their 10th and 90th percentile, against the fastest of the peers named. midsight has
glibc keep freed memory for the whole process, so peers have the gain of it, too. Peers run in inference mode, with
bfloat16 weights and with autocast where that is the question. Cosines of random weights are optimistic: trained
weights can differ more. Peak memory is the resident set (VmHWM) of a process of its own, with everything that it
imports. "(unsteady machine)" marks rows in whose rounds the probe, a matrix product, was far from its best. The
sections about tracking, the trunk, PerceptionLM, fewer bits and GPUs each name a machine of their own.

## Machine

<!-- machine -->
{machine}
<!-- /machine -->

## Goals

{goals}
"""


@dataclass
class Section:
    """What one question found. Rows share columns; "Case", "Speed" and "Goal" are those that the summary repeats."""

    title: str
    intro: str
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, footer: str) -> str:
        """The section in Markdown."""
        parts = [
            f"## {self.title}",
            self.intro,
            table(self.rows),
            "\n".join(f"- {note}" for note in self.notes),
            footer,
        ]
        return "\n\n".join(part for part in parts if part)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown; the columns in the order in which rows bring them, empty cells as a dash."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return ""
    lines = [columns, ["---"] * len(columns), *([row.get(column) or "-" for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read_table(text: str) -> list[dict[str, str]]:
    """The rows of all tables in `text`, as `table` writes them."""
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("| "):
            columns = []
            continue
        cells = line[2:-2].split(" | ")
        if not columns:
            columns = cells
        elif set(cells) != {"---"}:
            rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def footer(seconds: float, load_before: str) -> str:
    """When and on what a section was measured."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return (
        f"Measured {when} at commit {machine.commit()} in {seconds:.0f} s; "
        f"load average before {load_before}, after {machine.load_average()}."
    )


def sections_of(text: str) -> dict[str, str]:
    """Question -> its section, from the text of a `RESULTS.md`."""
    _, *parts = MARK.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def machine_of(text: str) -> str:
    """The description of the machine in the text of a `RESULTS.md`; empty where there is none."""
    found = MACHINE.search(text)
    return found[1] if found else ""


def goals(sections: dict[str, str]) -> str:
    """All rows that have a goal, in one table."""
    rows = [
        {"Question": name, **{key: row[key] for key in ("Case", "Speed", "Goal")}}
        for name, text in sections.items()
        for row in read_table(text)
        if row.get("Goal", "-") != "-"
    ]
    return table(rows) or "No section with a goal has been measured."


def write(name: str, section: str, order: Sequence[str], path: Path = RESULTS) -> None:
    """Put a section in its place. Sections of another machine or of other versions go: they could not be compared.

    What is measured `ELSEWHERE` neither drives out the others nor goes with them, and a machine that cannot measure it
    leaves what is known.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    here = (name in ELSEWHERE and machine_of(old)) or machine.describe()
    known = sections_of(old)
    kept = {key: text for key, text in known.items() if machine_of(old) == here or key in ELSEWHERE}
    if name not in ELSEWHERE or read_table(section) or name not in known:
        kept[name] = section
    ordered = {key: kept[key] for key in order if key in kept}
    parts = [HEAD.format(machine=here, goals=goals(ordered)).strip()]
    parts += [f"<!-- question: {key} -->\n{text}" for key, text in ordered.items()]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
