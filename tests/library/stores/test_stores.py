"""Every store keeps the same promises; what it gives is compared with plain numpy."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from midsight import errors
from midsight.library.stores import EVERYTHING, Filter, Store, lance, open_store, row_schema
from midsight.library.stores.base import could_not_write, glob_regex

DIM = 8
Maker = Callable[..., pa.Table]


@pytest.fixture(params=["lance", "qdrant", "qdrant in memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    address = {"lance": str(tmp_path / "rows"), "qdrant": f"qdrant:{tmp_path / 'q'}"}.get(
        request.param, "qdrant::memory:"
    )
    opened = open_store(address, DIM, create=True)
    yield opened
    opened.close()


def vectors(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def rows(names: list[str], embeddings: np.ndarray[Any, Any], **columns: list[Any]) -> pa.Table:
    """A row for each name; a name is the file's id, and what follows a "#" makes several rows of one file."""
    count = len(names)
    values: dict[str, Any] = {
        "id": [f"{abs(hash(name)):032x}"[-32:] for name in names], "file": [name.split("#")[0] for name in names],
        "path": [f"in/{name}.jpg" for name in names], "kind": ["image"] * count, "start": [None] * count,
        "end": [None] * count, "page": [None] * count, "size": [100 * (i + 1) for i in range(count)],
        "mtime": [float(i) for i in range(count)], "hash": ["00"] * count, "width": [4] * count, "height": [3] * count,
        "look": ["0" * 16] * count, "text": [None] * count, "tags": [[]] * count,
    }  # fmt: skip
    values |= columns
    values["embedding"] = pa.FixedSizeListArray.from_arrays(embeddings.ravel(), DIM)
    return pa.table(values, schema=row_schema(DIM))


def found(store: Store, vector: Any, top: int = 10, where: Filter = EVERYTHING, **options: Any) -> list[str]:
    return [match.row["path"] for match in store.search(vector, top, where, **options)]


def test_the_nearest_are_those_of_numpy(store: Store) -> None:
    embeddings, names = vectors(50), [f"f{i}" for i in range(50)]
    store.replace(names, rows(names, embeddings))
    question = vectors(1, seed=1)[0]
    expected = np.argsort(-embeddings @ question)[:10]
    matches = store.search(question, 10)
    assert [match.row["path"] for match in matches] == [f"in/f{i}.jpg" for i in expected]
    np.testing.assert_allclose([match.score for match in matches], (embeddings @ question)[expected], atol=1e-5)
    assert found(store, question, exact=True) == [match.row["path"] for match in matches]
    assert "embedding" not in matches[0].row
    assert store.count() == 50


def test_replacing_takes_what_was_there(store: Store) -> None:
    a, b = vectors(3), vectors(2, seed=5)
    store.replace(["x", "y"], rows(["x#1", "x#2", "y"], a))
    assert store.files() == {"x": 2, "y": 1}
    store.replace(["x", "z"], rows(["x#1", "z"], b))
    assert store.files() == {"x": 1, "y": 1, "z": 1}
    kept = store.read(["x", "z"]).sort_by("path")
    np.testing.assert_allclose(np.array(kept["embedding"].to_pylist(), np.float32), b, atol=1e-6)
    store.replace(["x", "z", "unknown"], rows([], vectors(0)))
    assert store.files() == {"y": 1}
    store.replace([], rows([], vectors(0)))
    store.replace(["x"], rows(["x#3", "new"], vectors(2, seed=8)), ["new"])
    assert {name: store.files().get(name) for name in ("x", "new")} == {"x": 1, "new": 1}
    store.replace(["x", "new"], rows([], vectors(0)))
    store.replace([], rows(["added"], vectors(1, seed=8)), ["added"])
    assert store.files().get("added") == 1
    store.replace(["added"], rows([], vectors(0)))
    assert store.read([]).num_rows == 0
    assert store.count() == 1


def test_a_row_by_its_id(store: Store) -> None:
    table = rows(["x", "y"], vectors(2), start=[1.5, None], page=[None, 3], kind=["video", "page"], tags=[["a"], []])
    store.replace(["x", "y"], table)
    match = store.row(table["id"][1].as_py())
    assert match is not None
    assert (match[0].row["path"], match[0].row["page"], match[0].row["start"]) == ("in/y.jpg", 3, None)
    np.testing.assert_allclose(match[1], vectors(2)[1], atol=1e-6)
    assert store.row("0" * 32) is None
    assert store.row("'; DROP TABLE rows") is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(paths=("*.png",)), [1]),
        (Filter(paths=("a/*",)), [0]),
        (Filter(paths=("a/**",)), [0, 1]),
        (Filter(paths=("c'?.jpg", "a/b/*")), [1, 2]),
        (Filter(kinds=("video", "page")), [1, 2]),
        (Filter(tags=("red",)), [0, 2]),
        (Filter(tags=("red", "it's")), [2]),
        (Filter(after=10.0, before=20.0), [0]),
        (Filter(min_bytes=2, max_bytes=2), [1]),
        (Filter(files=("2",), tags=("red",)), [2]),
        (Filter(paths=("nothing",)), []),
    ],
)
def test_filters(store: Store, where: Filter, expected: list[int]) -> None:
    paths = ["a/x.jpg", "a/b/y.png", "c'1.jpg"]
    table = rows(
        ["0", "1", "2"], vectors(3), path=paths, kind=["image", "video", "page"], tags=[["red"], [], ["red", "it's"]],
        mtime=[10.0, 20.0, 30.0], size=[1, 2, 3],
    )  # fmt: skip
    store.replace(["0", "1", "2"], table)
    question = vectors(1, seed=2)[0]
    assert sorted(found(store, question, where=where)) == sorted(paths[i] for i in expected)
    assert store.count(where) == len(expected)
    assert sum(batch.num_rows for batch in store.scan(["id", "embedding"], where)) == len(expected)


def test_words_in_pages(store: Store) -> None:
    texts = ["the invoice of the giraffe", "an invoice", None, "a zebra"]
    table = rows(["a", "b", "c", "d"], vectors(4), text=texts, tags=[["x"], [], [], []])
    store.replace(["a", "b", "c", "d"], table)
    matches = store.search_text("giraffe invoice", 5)
    assert [match.row["text"] for match in matches] == texts[:2]
    assert matches[0].score > matches[1].score > 0
    assert [match.row["path"] for match in store.search_text("invoice", 5, Filter(tags=("x",)))] == ["in/a.jpg"]
    assert store.search_text("elephant", 5) == []
    assert store.search_text("  ", 5) == []
    assert len(store.search_text("invoice", 1)) == 1


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, 2.0])
def test_a_vector_that_fits_everything_or_nothing_is_not_stored(store: Store, bad: float) -> None:
    embeddings = vectors(2)
    embeddings[1] *= bad
    with pytest.raises(errors.InputError, match=r"in/y.jpg: its embedding has length .* not stored"):
        store.replace(["x", "y"], rows(["x", "y"], embeddings))
    assert store.count() == 0


def test_rows_of_other_files_are_not_stored(store: Store) -> None:
    with pytest.raises(errors.InputError, match="not among those that are replaced"):
        store.replace(["x"], rows(["x", "y"], vectors(2)))
    with pytest.raises(errors.InputError, match="rows must have the columns"):
        store.replace(["x"], rows(["x"], vectors(1)).drop_columns(["text"]))


def test_opened_again(tmp_path: Path) -> None:
    for address in (str(tmp_path / "rows"), f"qdrant:{tmp_path / 'q'}"):
        with pytest.raises(errors.InputError, match="no rows of an index are there"):
            open_store(address, DIM)
        store = open_store(address, DIM, create=True)
        store.replace(["x"], rows(["x"], vectors(1)))
        store.optimize()
        store.close()
        store = open_store(address, DIM)
        assert store.files() == {"x": 1}
        store.close()
        with pytest.raises(errors.InputError, match="holds embeddings of 8 numbers, expected 9"):
            open_store(address, 9)
        store = open_store(address, DIM)
        store.drop()
        store.close()
        with pytest.raises(errors.InputError, match="no rows"):
            open_store(address, DIM)


def test_unknown_addresses() -> None:
    with pytest.raises(errors.InputError, match="no store is called 'milvus'"):
        open_store("milvus:photos", DIM)
    with pytest.raises(errors.InputError, match="a server and a collection"):
        open_store("qdrant:http://localhost", DIM)


def test_a_reader_sees_each_commit(tmp_path: Path) -> None:
    writer = open_store(tmp_path / "rows", DIM, create=True)
    reader = open_store(tmp_path / "rows", DIM)
    writer.replace(["x"], rows(["x"], vectors(1)))
    assert reader.count() == 1
    writer.replace(["x", "y"], rows(["y"], vectors(1)))
    assert list(reader.files()) == ["y"]


def test_compaction_under_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "KEPT", lance.timedelta(0))
    writer = open_store(tmp_path / "rows", DIM, create=True)
    reader = open_store(tmp_path / "rows", DIM)
    for i in range(20):
        writer.replace([f"f{i}"], rows([f"f{i}"], vectors(1, seed=i)))
    before = reader.search(vectors(1)[0], 20)
    with pytest.warns(UserWarning, match="cleanup_older_than"):
        writer.optimize()
    assert reader.search(vectors(1)[0], 20) == before
    assert len(list((tmp_path / "rows" / "rows.lance" / "data").iterdir())) == 1


def test_lancedb_finds_the_same_without_midsight(tmp_path: Path) -> None:
    import lancedb

    store = open_store(tmp_path / "rows", DIM, create=True)
    names = [f"f{i}" for i in range(200)]
    store.replace(names, rows(names, vectors(200)))
    question = vectors(1, seed=3)[0]
    table = lancedb.connect(tmp_path / "rows").open_table("rows")
    theirs = [row["path"] for row in table.search(question).limit(10).to_list()]
    assert theirs == found(store, question)
    matrix = np.stack(table.to_arrow()["embedding"].to_numpy())
    assert [f"in/f{i}.jpg" for i in np.argsort(-matrix @ question)[:10]] == theirs


def test_an_index_over_many_rows_finds_nearly_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "ANN_FROM", 2000)
    store = open_store(tmp_path / "rows", DIM, create=True)
    names = [f"f{i}" for i in range(2000)]
    store.replace(names, rows(names, vectors(2000)))
    assert not store.has_index()
    store.optimize()
    assert store.has_index()
    hits = 0
    for question in vectors(20, seed=4):
        exact = found(store, question, exact=True)
        assert exact == [f"in/f{i}.jpg" for i in np.argsort(-vectors(2000) @ question)[:10]]
        hits += len(set(exact) & set(found(store, question)))
    assert hits >= 0.95 * 200
    store.replace(["new"], rows(["new"], vectors(1, seed=9)))
    assert found(store, vectors(1, seed=9)[0], top=1) == ["in/new.jpg"], "rows behind the index are searched, too"


def test_lancedb_finds_the_same_through_an_index_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lancedb

    monkeypatch.setattr(lance, "ANN_FROM", 5000)
    monkeypatch.setattr(lance, "_LISTS_ROOT", 0.25)  # as many lists as a large table has
    store = open_store(tmp_path / "rows", DIM, create=True)
    names = [f"f{i}" for i in range(5000)]
    store.replace(names, rows(names, vectors(5000)))
    store.optimize()
    page = (Path(__file__).parents[3] / "docs" / "search.md").read_text()
    said: dict[str, Any] = {}
    exec("def nearest" + page.split("def nearest")[1].split("\n\n\n")[0], said)
    table = lancedb.connect(tmp_path / "rows").open_table("rows")
    missed = 0
    for question in vectors(40, seed=4):
        exact = found(store, question, exact=True)
        assert [row["path"] for row in table.search(question).bypass_vector_index().limit(10).to_list()] == exact
        assert [row["path"] for row in said["nearest"](table, question, 10).to_list()] == found(store, question)
        missed += len(set(exact) - {row["path"] for row in table.search(question).limit(10).to_list()})
    assert missed > 0, "else the page need not say anything"


@pytest.mark.parametrize(
    ("glob", "fits", "not_"),
    [
        ("*.jpg", ["a.jpg", "x/a.jpg"], ["a.jpgx", "ajpg"]),
        ("2024/*", ["2024/a"], ["2024/a/b", "x/2024/a"]),
        ("2024/**", ["2024/a", "2024/a/b"], ["2025/a"]),
        ("**/night/*", ["night/a", "x/y/night/a"], ["night/a/b"]),
        ("a?[1].jpg", ["ab[1].jpg"], ["a/[1].jpg", "ab1.jpg"]),
    ],
)
def test_path_patterns(glob: str, fits: list[str], not_: list[str]) -> None:
    import re

    assert [path for path in fits + not_ if re.search(glob_regex(glob), path)] == fits


def test_filters_that_cannot_be() -> None:
    with pytest.raises(errors.InputError, match="no kind 'movie'"):
        Filter(kinds=("movie",))
    with pytest.raises(errors.InputError, match="must be a tuple"):
        Filter(paths="*.jpg")  # type: ignore[arg-type]


def test_a_full_disk_is_told_with_path_and_bytes() -> None:
    error = could_not_write("/photos/rows", 12345, OSError("LanceError(IO): No space left on device (os error 28)"))
    assert str(error).startswith("/photos/rows: 12,345 bytes could not be written (no space left on the device).")


def test_the_quick_import_of_lancedb_leaves_its_functions_checked() -> None:
    script = """
import gc, pydantic
from midsight.library.stores.lance import import_lancedb
before = pydantic.validate_call
import_lancedb()
assert pydantic.validate_call is before and gc.isenabled()
from lance_namespace_urllib3_client import TableApi
try:
    TableApi().count_table_rows(id=5)
except pydantic.ValidationError as error:
    print(*sorted(one["loc"][0] for one in error.errors()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "count_table_rows_request id\n")
