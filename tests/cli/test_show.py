"""Nothing raw reaches the terminal; nothing is lost on a narrow one."""

import io
import json

import pytest
from rich.console import Console

from midsight.cli import show


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    monkeypatch.setattr(show, "out", lambda: Console(file=file, width=30))
    return file


def test_safe() -> None:
    assert show.safe("caf\u00e9 \u732b") == "caf\u00e9 \u732b"
    assert show.safe("a\x1b[2Jb\rc\nd\x07\x9b") == r"a\x1b[2Jb\rc\nd\x07\x9b"
    assert show.safe("photo\u202egpj.exe") == r"photo\u202egpj.exe"
    assert show.safe("caf\udce9") == r"caf\udce9"
    assert show.safe_lines("a\nb\x1b") == "a\nb\\x1b"


def test_long_cells_are_folded_and_not_cut(narrow: io.StringIO) -> None:
    show.table(("file", "label"), [("x" * 50, "[bold]a dog[/bold]")])
    text = narrow.getvalue()
    assert text.count("x") == 50
    assert "".join(text.split()).count("[bold]adog[/bold]".replace(" ", "")) == 1 or "[bold]" in text
    assert max(len(line) for line in text.splitlines()) <= 30


def test_json_is_ascii_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"path": "caf\udce9\n\u732b\x9b"}
    show.json_line(record)
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == record
