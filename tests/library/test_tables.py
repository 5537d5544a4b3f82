"""Embeddings on disk, read back by the formats' own libraries."""

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from midsight import errors
from midsight.library.tables import Block, Row, check_output, sidecar, write_table

ABOUT = {"identity": "abc", "model": "tiny \u00e9", "layer": ""}
MATRIX = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
ROWS = [Row("a.png", None, None, None), Row("b\n.png", None, None, "broken"), Row("c.mp4", 0.0, 2.5, None)]


def blocks() -> Iterator[Block]:
    yield Block(ROWS, MATRIX[:2])
    yield Block([], MATRIX[:0])
    yield Block([Row("d.png", None, None, None)], MATRIX[2:])


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_table(path, blocks, 4, ABOUT)
    table = pq.read_table(path)
    assert table.column_names == ["path", "start", "end", "embedding", "error"]
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == ["a.png", "b\n.png", "c.mp4", "d.png"]
    assert [row["error"] for row in rows] == [None, "broken", None, None]
    assert rows[1]["embedding"] is None
    assert (rows[2]["start"], rows[2]["end"], rows[0]["start"]) == (0.0, 2.5, None)
    np.testing.assert_array_equal([row["embedding"] for row in rows if row["embedding"]], MATRIX)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata.items() >= ABOUT.items()


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_matrix_with_a_file_beside_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, blocks, 4, ABOUT)
    if suffix == ".npy":
        found = np.load(path)
    else:
        with safe_open(path, "np") as file:
            found, metadata = file.get_tensor("embeddings"), file.metadata()
        assert metadata == ABOUT
    np.testing.assert_array_equal(found, MATRIX)
    assert found.dtype == np.float32
    beside = json.loads(sidecar(path).read_text())
    assert {key: beside[key] for key in ABOUT} == ABOUT
    assert [(row["path"], row.get("line"), row.get("error")) for row in beside["rows"]] == [
        ("a.png", 0, None), ("b\n.png", None, "broken"), ("c.mp4", 1, None), ("d.png", 2, None),
    ]  # fmt: skip
    assert beside["rows"][2]["end"] == 2.5


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".safetensors"])
def test_no_good_row_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, lambda: iter([Block([Row("a", None, None, "broken")], MATRIX[:0])]), 4, ABOUT)
    if suffix == ".parquet":
        assert pq.read_table(path)["embedding"].to_pylist() == [None]
    elif suffix == ".npy":
        assert np.load(path).shape == (0, 4)
    else:
        with safe_open(path, "np") as file:
            assert file.get_tensor("embeddings").shape == (0, 4)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".safetensors"])
def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")
    sidecar(path).write_bytes(b"old too")
    calls = 0

    def failing() -> Iterator[Block]:
        nonlocal calls
        calls += 1
        yield from blocks()
        if suffix == ".parquet" or calls > 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(errors.OutputError, match="No space left"):
        write_table(path, failing, 4, ABOUT)
    assert path.read_bytes() == b"old"
    assert sidecar(path).read_bytes() == b"old too"
    assert len(list(tmp_path.iterdir())) == 2


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    check_output(tmp_path / "a.PARQUET")
    with pytest.raises(errors.InputError, match=r"\.csv.*\.parquet, \.npy, \.safetensors"):
        check_output(tmp_path / "a.csv")
    with pytest.raises(errors.OutputError, match="does not exist"):
        check_output(tmp_path / "no" / "a.npy")
    (tmp_path / "b.npy").mkdir()
    with pytest.raises(errors.OutputError, match="is a folder"):
        check_output(tmp_path / "b.npy")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError("no pyarrow")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(errors.MissingDependencyError, match=r"midsight\[search\]"):
        check_output(tmp_path / "a.parquet")
    check_output(tmp_path / "a.npy")
