"""Labels and decisions, and what is said of those that cannot be."""

import re
from pathlib import Path

import pytest

from midsight.errors import InputError
from midsight.library.moderate.labels import merged, read_decisions, read_labels

NAMES = ("guns", "smoking and drugs")


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes('﻿file,smoking and drugs,guns\r\na.jpg,YES,0\r\n"b, c.jpg",,x\r\n\r\nmore/d.mp4,n\r\n'.encode())
    assert read_labels(path, NAMES) == {
        tmp_path / "a.jpg": {"smoking and drugs": True, "guns": False},
        tmp_path / "b, c.jpg": {"guns": True},
        tmp_path / "more/d.mp4": {"smoking and drugs": False},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the first column is 'nothing'"),
        ("path,guns\n", "line 1: the first column is 'path'; expected `file`"),
        ("file\na\n", "line 1: no column for a category"),
        ("file,gun\na,1\n", "line 1: the policy has no category 'gun'; did you mean 'guns'?"),
        ("file,guns,guns\na,1,1\n", "line 1: the column 'guns' is there twice"),
        ("file,guns\na,1\nb,maybe\n", "line 3: 'maybe' under 'guns'; expected yes, no"),
        ("file,guns\na,1,1\n", "line 2: 3 cells, but line 1 has 2 columns"),
        ("file,guns\na,1\na,0\n", "line 3: a is there twice"),
        ("file,guns\n,1\n", "line 2: no file is named"),
        ("file,guns\n", "holds no labelled files"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{path}: {reason}")):
        read_labels(path, NAMES)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"\xff\xfe\x00")
    for name in ("odd", "missing"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            read_labels(tmp_path / name, NAMES)
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            read_decisions(tmp_path / name)


def test_the_later_decision_counts(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(
        '{"path": "/a.jpg", "category": "guns", "decision": "yes", "decided": "2026-01-01T00:00:00Z"}\n\n'
        '{"path": "/a.jpg", "category": "other", "decision": "no"}\n'
        '{"path": "/a.jpg", "category": "guns", "decision": "no"}\n'
    )
    assert read_decisions(path, NAMES) == {Path("/a.jpg"): {"guns": False}}
    assert read_decisions(path) == {Path("/a.jpg"): {"guns": False, "other": False}}
    for line in ("[]", '{"path": "a", "category": "guns", "decision": "perhaps"}', '{"path": 1}', "no"):
        path.write_text('{"path": "a", "category": "guns", "decision": "no"}\n' + line)
        with pytest.raises(InputError, match=r"decisions\.jsonl: line 2: "):
            read_decisions(path)


def test_decisions_win_over_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = {Path("a.jpg"): {"guns": True, "other": False}, Path("b.jpg"): {"guns": True}}
    found = merged(labels, {tmp_path / "a.jpg": {"guns": False}})
    assert found == {tmp_path / "a.jpg": {"guns": False, "other": False}, tmp_path / "b.jpg": {"guns": True}}
