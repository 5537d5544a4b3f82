import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.configs import PreprocessConfig
from midsight.library.index.decode import MOST_BYTES, MOST_FILES, Decoders, End, Parts, Piece, together
from midsight.library.index.scan import Found
from midsight.library.index.worker import Job

JOB = Job(PreprocessConfig(image_size=32), clip_seconds=10.0, frames=8, seconds=30.0)

# Dies at pictures that begin with these letters: while it reads them, or behind them, when it says what it found.
DYING = """
import os, signal
from midsight import child
from midsight.library.index import worker
real, send = worker.pieces, child.send
def pieces(path, *rest):
    if path.read_bytes()[:4] == b"KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    yield from real(path, *rest)
def dying(connection, header, data=b""):
    messages = header.get("messages", [])
    if len(messages) > 2 and "last" in messages[-1][1].get("failed", ""):
        os.kill(os.getpid(), signal.SIGKILL)
    send(connection, header, data)
worker.pieces, child.send = pieces, dying
worker.main()
"""


def found(name: str, size: int = 1000) -> Found:
    return Found(name, "video" if name.endswith("mp4") else "image", size)


def test_small_pictures_are_asked_for_together() -> None:
    many = [found(f"{i}.jpg") for i in range(2 * MOST_FILES + 1)]
    assert [len(group) for group in together(many)] == [MOST_FILES, MOST_FILES, 1]
    mixed = [found("a.jpg"), found("b.mp4"), found("c.mp4"), found("d.jpg"), found("e.jpg")]
    assert [[file.name[0] for file in group] for group in together(mixed)] == [["a"], ["b"], ["c"], ["d", "e"]]
    large = [found("a.jpg", MOST_BYTES), found("b.jpg"), found("c.jpg", MOST_BYTES - 1000), found("d.jpg")]
    assert [[file.name[0] for file in group] for group in together(large)] == [["a"], ["b", "c"], ["d"]]
    assert list(together([])) == []


@pytest.fixture
def pictures(tmp_path: Path) -> list[Found]:
    """Six pictures."""
    files = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        files.append(Found(path.name, "image", path.stat().st_size))
    return files


def read(files: list[Found], root: Path, *command: str) -> Parts:
    decoders = Decoders(JOB, root, command or None)
    try:
        return [part for parts in decoders.read(files) for part in parts]
    finally:
        decoders.close()


def described(parts: Parts) -> Iterator[tuple[object, ...]]:
    for file, part in parts:
        yield (file.name, part.place, part.frames.tolist()) if isinstance(part, Piece) else (file.name, part)


def test_a_group_has_the_same_pieces_and_ends_as_files_read_here(pictures: list[Found], tmp_path: Path) -> None:
    (tmp_path / "2.png").write_bytes(b"nothing")
    here = read(pictures, tmp_path)
    there = read(pictures, tmp_path, sys.executable, "-P", "-m", "midsight.library.index.worker")
    assert list(described(there)) == list(described(here))
    assert [file.name for file, part in here if isinstance(part, End)] == [file.name for file in pictures]
    assert len({str(part.frames.tolist()) for _, part in here if isinstance(part, Piece)}) == 5


def test_a_death_in_a_group_costs_its_file_alone(pictures: list[Found], tmp_path: Path) -> None:
    expected = {file.name: part.frames for file, part in read(pictures, tmp_path) if isinstance(part, Piece)}
    (tmp_path / "2.png").write_bytes(b"KILL")
    parts = read(pictures, tmp_path, sys.executable, "-c", DYING)
    pieces = {file.name: part.frames for file, part in parts if isinstance(part, Piece)}
    ends = {file.name: part for file, part in parts if isinstance(part, End)}
    assert list(ends) == [file.name for file in pictures], "in order"
    assert pieces.keys() == expected.keys() - {"2.png"}
    assert all(torch.equal(pieces[name], expected[name]) for name in pieces)
    assert [name for name, end in ends.items() if end.failed] == ["2.png"]
    assert f"killed by {signal.SIGKILL.name}" in (ends["2.png"].failed or "")
    start = ends["2.png"].start
    assert start is not None, "what is known of it is kept, so that it is not tried again"
    assert (start.size, start.mtime_ns) == (4, os.stat(tmp_path / "2.png").st_mtime_ns)


def test_a_death_between_files_blames_none_of_them(pictures: list[Found], tmp_path: Path) -> None:
    (tmp_path / "last.png").write_bytes(b"nothing")
    files = [*pictures, Found("last.png", "image", 7)]
    parts = read(files, tmp_path, sys.executable, "-c", DYING)
    ends = {file.name: part.failed for file, part in parts if isinstance(part, End)}
    assert list(ends) == [file.name for file in files]
    assert [name for name, failed in ends.items() if failed] == ["last.png"]
    assert "killed" not in (ends["last.png"] or "")
