"""Code blocks of Markdown pages: found, run in order, and what they print held against the block behind them.

A page is run as a reader would run it: its Python blocks share their names, and all its blocks share a folder. A `text`
block behind a Python or Bash block is what that block prints, on stdout or stderr. An HTML comment right above a block
tells what is special about it:

    <!-- not run: REASON -->        what cannot run here at all; `test_code_blocks.py` lists every such block
    <!-- without CUDA: REASON -->   where there is no GPU, it runs without `.cuda()` and without the autocast line
"""

import contextlib
import io
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- (not run|without CUDA): ((?:(?!-->).)+?) -->\s*\Z", re.DOTALL)
GENERATED = re.compile(r"<!-- generated: [\w-]+ -->.*?<!-- /generated -->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])%?")
AUTOCAST = re.compile(r", torch\.autocast\([^)]*\)")
RUN = ("python", "bash")
CLOSE = 0.03  # relative: other processors round other sums
SECONDS = 180  # for one Bash block: an export takes 25 on a free core


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int  # of the fence, from 1
    language: str
    text: str
    special: str | None = None  # "not run" or "without CUDA"
    reason: str | None = None
    span: tuple[int, int] = (0, 0)  # of the whole block in the page's text

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is code that can run here."""
        return self.language in RUN and self.special != "not run"


def read_blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order, without those that a script writes."""
    text = page.read_text(encoding="utf-8")
    text = GENERATED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    blocks = []
    for found in FENCE.finditer(text):
        comment = COMMENT.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        code = textwrap.dedent(found[3])
        special, reason = (comment[1], " ".join(comment[2].split())) if comment else (None, None)
        blocks.append(Block(page, line, found[2], code, special, reason, found.span()))
    return blocks


def with_outputs(blocks: list[Block]) -> Iterator[tuple[Block, Block | None]]:
    """Each code block with the `text` block behind it, if there is one."""
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language in RUN:
            yield block, following if following is not None and following.language == "text" else None


def run_page(page: Path) -> Iterator[tuple[Block, str, Block | None]]:
    """Runs a page in the current folder.

    Yields:
        Each block that ran, what it printed, and the block that shows what it prints.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block, output in with_outputs(read_blocks(page)):
        if block.runs:
            yield block, run_python(block, names) if block.language == "python" else run_bash(block), output


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Runs a block in this process; what it printed."""
    text = block.text
    if block.special == "without CUDA" and not torch.cuda.is_available():
        text = AUTOCAST.sub("", text.replace(".cuda()", ""))
    code = compile("\n" * block.line + text, str(block.page), "exec")  # tracebacks then give the page's own lines
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def run_bash(block: Block) -> str:
    """Runs a block in a shell that stops at the first failure; what it printed on stdout and stderr."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def same_output(shown: str, printed: str) -> bool:
    """Whether two outputs say the same: equal words in equal order, equal whole numbers, and other numbers close."""
    return NUMBER.sub("#", " ".join(shown.split())) == NUMBER.sub("#", " ".join(printed.split())) and all(
        abs(a - b) <= (last and CLOSE * max(abs(a), abs(b)) + last)
        for (a, last), (b, _) in zip(_numbers(shown), _numbers(printed), strict=True)
    )


def _numbers(text: str) -> list[tuple[float, float]]:
    """Numbers with the worth of their last digit, which is 0 for those that count something."""
    found = []
    for number in NUMBER.findall(text):
        digits = number.rstrip("%").replace(",", "")
        mantissa, _, exponent = digits.partition("e")
        counts = digits.isdigit() and not number.endswith("%")
        last = 0.0 if counts else 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        found.append((float(digits), last))
    return found


def tidy(printed: str) -> str:
    """Printed text as it stands in a page: no spaces at line ends, no empty lines around it."""
    return "\n".join(line.rstrip() for line in printed.strip("\n").splitlines()).strip("\n")
