"""The folder of a job: whole parts, other people's files, and what is left when it is done."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from midsight.errors import InputError, MidsightError, MissingDependencyError, OutputError
from midsight.library.jobs import checkpoint
from midsight.library.jobs.checkpoint import Checkpoint, Counted
from midsight.library.jobs.job import check_output
from midsight.library.tables import Block, Row

HEAD = {"version": 1, "identity": "abc", "model": "tiny", "inputs": "123", "count": 3}
BLOCK = Block([Row("a", None, None, None), Row("b", 0.0, 1.0, None), Row("c", None, None, "broken")], np.eye(2, 4))


def test_parts_are_seen_by_their_names(tmp_path: Path) -> None:
    work = Checkpoint(str(tmp_path / "out"))
    assert work.open(HEAD) == set()
    counted = work.keep("part-000000-aa.parquet", BLOCK, 4, {"identity": "abc"})
    assert counted == Counted("part-000000-aa.parquet", rows=3, failures=1)
    again = Checkpoint(str(tmp_path / "out"))
    assert again.open(HEAD) == {counted.name}
    assert again.count([counted.name]) == [counted]
    (tmp_path / "out/part-000009-zz.parquet").write_bytes(b"of no job")
    again.finish([counted], {"identity": "abc"})
    table = pq.read_table(tmp_path / "out")
    assert table["path"].to_pylist() == ["a", "b", "c"]
    assert table.schema.metadata[b"identity"] == b"abc"
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert manifest["parts"] == [{"name": counted.name, "rows": 3, "failures": 1}]
    again.remove()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    work = Checkpoint(str(tmp_path))
    for call in (lambda: work.open(HEAD), work.remove):
        with pytest.raises(OutputError, match="left alone"):
            call()
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(OutputError, match="is a file"):
        Checkpoint(str(tmp_path / "thesis.tex")).open(HEAD)


def test_damage_is_told(tmp_path: Path) -> None:
    work = Checkpoint(str(tmp_path / "out"))
    work.open(HEAD)
    (tmp_path / "out/part-000000-aa.parquet").write_bytes(b"cut")
    with pytest.raises(InputError, match="part-000000-aa.parquet: is damaged.*--restart"):
        work.count(["part-000000-aa.parquet"])
    (tmp_path / "out/_job.json").write_bytes(b"{")
    with pytest.raises(OutputError, match="_job.json: cannot be read.*--restart"):
        work.open(HEAD)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.npy", "writes a folder of Parquet files .or NAME.lance., not .npy"),
        ("nowhere/out", "the folder .*nowhere does not exist"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(MidsightError, match=message):
        check_output(str(tmp_path / name))


def test_lance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that keeps what it is given: lancedb is nothing that this needs."""
    import sys
    import types

    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingDependencyError, match="pip install lancedb"):
        check_output(str(tmp_path / "out.lance"))
    kept = {}

    class Database:
        def create_table(self, name: str, data: object, mode: str) -> None:
            kept[name, mode] = data.read_all()  # type: ignore[attr-defined]  # a RecordBatchReader

    stand_in = types.ModuleType("lancedb")
    stand_in.connect = lambda place: kept.setdefault("place", place) and Database()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lancedb", stand_in)
    check_output(str(tmp_path / "out.lance"))
    work = Checkpoint(str(tmp_path / "out.lance"))
    work.open(HEAD)
    parts = [work.keep(f"part-00000{i}-aa.parquet", BLOCK, 4, {}) for i in range(2)]
    assert (tmp_path / "out.lance.partial/_job.json").exists()
    work.finish(parts, {})
    assert kept["place"] == str(tmp_path)
    assert kept["out", "overwrite"]["path"].to_pylist() == ["a", "b", "c"] * 2
    assert not (tmp_path / "out.lance.partial").exists()
    assert checkpoint.LANCE == ".lance"
