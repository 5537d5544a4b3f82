"""What a job embeds, from folders, lists and URLs."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from midsight.errors import InputError
from midsight.library.jobs.inputs import find_inputs, fingerprint, parts_of, row_name
from midsight.library.scan import find_media


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "sub/c.mp4", "sub/d.txt", ".hidden.png", ".git/e.png", "z/f.webp"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


def names(*given: object) -> list[str]:
    return [one.name for one in find_inputs([str(one) for one in given])]


def test_folders_are_those_of_embed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(tree, tree / "a.png") == [str(path) for path in find_media([tree])]
    monkeypatch.chdir(tree)
    (one,) = find_inputs(["a.png"])
    assert (one.name, one.place) == ("a.png", str(tree / "a.png")), "other machines have other current folders"


def test_a_url_lists_as_a_folder_does(tree: Path) -> None:
    found = names(f"file://{tree}")
    assert [name.removeprefix("file://") for name in found] == names(tree)


def test_a_scheme_of_fsspec(tree: Path) -> None:
    import fsspec

    memory = PyFileSystem(FSSpecHandler(fsspec.filesystem("memory")))
    memory.create_dir("album")
    for name in ("album/2.png", "album/1.png", "album/readme.md"):
        with memory.open_output_stream(name) as file:
            file.write(b"x")
    assert [name.rpartition("/")[2] for name in names("memory://album")] == ["1.png", "2.png"]


def test_lists(tree: Path) -> None:
    text, table = tree / "list.txt", tree / "list.parquet"
    text.write_text(f"{tree}/a.png\n\n s3://bucket/b.png \n{tree}/a.png\n")
    assert names(text) == [f"{tree}/a.png", "s3://bucket/b.png"]
    pq.write_table(pa.table({"path": ["x.png", "s3://bucket/y.png"], "size": [1, 2]}), table)
    assert names(table) == ["x.png", "s3://bucket/y.png"]


def test_a_query_says_how_and_not_what(tree: Path) -> None:
    text = tree / "list.txt"
    text.write_text("s3://bucket/a.png?region=us-east-1\n")
    (one,) = find_inputs([str(text)])
    assert (one.name, one.place) == ("s3://bucket/a.png", "s3://bucket/a.png?region=us-east-1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n \n", "names no files"),
        ("no.parquet", b"no table", "cannot be read as a list.*column 'path'"),
        ("missing.txt", None, "no such file"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception, match=message):
        names(tmp_path / name)


def test_a_list_without_the_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": ["x.png"]}), tmp_path / "list.parquet")
    with pytest.raises(InputError, match="column 'path'"):
        names(tmp_path / "list.parquet")


def test_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files were given"):
        find_inputs([])
    with pytest.raises(InputError, match="nosuch://place.*cannot be opened"):
        names("nosuch://place/folder")
    with pytest.raises(InputError, match="no pictures or videos in this folder"):
        names(f"file://{tmp_path}")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    (one,) = find_inputs([str(tmp_path)])
    assert os.fsencode(one.place).endswith(b"caf\xe9.png")
    assert row_name(one).endswith("caf\\xe9.png")


def test_parts_are_named_by_what_is_in_them(tree: Path) -> None:
    inputs = find_inputs([str(tree)])
    parts = list(parts_of(inputs, 2, "job"))
    assert [len(part.inputs) for part in parts] == [2, 2]
    assert parts == list(parts_of(inputs, 2, "job"))
    before = fingerprint(inputs)
    os.utime(tree / "a.png", ns=(1, 1))
    changed = find_inputs([str(tree)])
    assert fingerprint(changed) != before
    renamed = [part.name for part in parts_of(changed, 2, "job")]
    assert [new == old.name for new, old in zip(renamed, parts, strict=True)] == [False, True]
    assert not {part.name for part in parts_of(inputs, 2, "another job")} & {part.name for part in parts}
    assert sorted(renamed) == renamed
