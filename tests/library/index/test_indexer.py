"""A folder and its index, followed through everything that happens to files."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight import errors
from midsight.library.index import FileOutcome, Filter, Indexer, Library, Query, Settings
from midsight.library.index import indexer as indexer_module
from midsight.library.index.tags import tag_files
from tests.conftest import save_tiny
from tests.library.documents.makers import Sheet, write_pdf

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))

# The decoder, with files that hang it or kill it by their first bytes.
ODD_DECODER = """
import os, signal, time, torch
from midsight.library.index import worker
real = worker.pieces
def pieces(path, *rest):
    first = path.read_bytes()[:4]
    if first == b"HANG":
        time.sleep(1000)
    if first == b"KILL":
        yield worker.Place("image"), torch.full((1, 3, 32, 32), 9, dtype=torch.uint8)
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from real(path, *rest)
worker.pieces = pieces
worker.main()
"""

# The decoder, for files that somebody else is writing.
CHANGING_DECODER = """
import os
from midsight.library.index import worker
real = worker.pieces
def pieces(path, *rest):
    yield from real(path, *rest)
    os.utime(path)
worker.pieces = pieces
worker.main()
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two folders."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i in range(6):
        draw(folder / ("sub" if i % 2 else "") / f"{i}.png", seed=i)
    return folder


def draw(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24 + seed, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def index(model: midsight.Perception, root: Path, **options: Any) -> list[tuple[str, str, str]]:
    """Runs it, and gives what it did: name, what, result."""
    with Indexer(model, root, **{"decoder": None, **options}) as indexer:
        return [(os.fspath(o.path.relative_to(root)), o.did, o.result) for o in indexer.run()]


def contents(folder: Path) -> dict[str, Any]:
    """Path, place and embedding of every row."""
    with Library(folder) as library:
        found: dict[str, Any] = {}
        for batch in library.store.scan(["id", "path", "start", "page", "embedding"]):
            for row in batch.to_pylist():
                assert row["id"] not in found, "a row is there twice"
                found[row["id"]] = (row["path"], row["start"], row["page"], tuple(row["embedding"]))
        return found


def test_the_first_run_and_the_second(tiny_model: midsight.Perception, photos: Path) -> None:
    shutil.copy(CLIP, photos / "clip.mp4")
    done = index(tiny_model, photos, settings=Settings(clip_seconds=1.0, frames=2))
    assert len(done) == 7
    assert {entry[1:] for entry in done} == {("embedded", "indexed")}
    assert index(tiny_model, photos) == []
    with Library(photos) as library:
        assert library.count() > 7
        columns = ["path", "start", "end", "width", "height", "embedding"]
        rows = [row for batch in library.store.scan(columns) for row in batch.to_pylist()]
        stretches = sorted((row["start"], row["end"]) for row in rows if row["path"] == "clip.mp4")
        assert stretches[0] == (0.0, 1.0)
        assert all(a[1] == b[0] for a, b in zip(stretches, stretches[1:], strict=False))
        for row in rows:
            if row["path"].endswith(".png"):
                expected = tiny_model.embed_images(photos / row["path"])[0]
                np.testing.assert_allclose(row["embedding"], expected, atol=1e-6)
                assert row["width"] == 24 + int(row["path"].split("/")[-1][0])
                assert row["height"] == 20


def test_only_what_changed_is_read_again(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    before = contents(photos)
    draw(photos / "0.png", seed=100)
    draw(photos / "new.png", seed=101)
    assert index(tiny_model, photos) == [("0.png", "embedded", "indexed"), ("new.png", "embedded", "indexed")]
    after = contents(photos)
    assert len(after) == 7
    assert {row for row in before if before[row] != after[row]} == {r for r, v in before.items() if v[0] == "0.png"}
    os.utime(photos / "2.png", ns=(1, 1))
    assert index(tiny_model, photos) == [("2.png", "copied", "indexed")], "touched, but of the same content"
    assert contents(photos) == after


def test_moves_and_copies_are_not_embedded(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(tiny_model, photos)
    before = contents(photos)
    os.rename(photos / "sub", photos / "moved")
    shutil.copy(photos / "0.png", photos / "copy.png")
    monkeypatch.setattr(tiny_model, "_encode", lambda images: pytest.fail("a moved file was embedded"))
    done = index(tiny_model, photos)
    assert [entry[:2] for entry in done] == [
        ("copy.png", "copied"), ("moved/1.png", "copied"), ("moved/3.png", "copied"), ("moved/5.png", "copied"),
        ("sub/1.png", "removed"), ("sub/3.png", "removed"), ("sub/5.png", "removed"),
    ]  # fmt: skip
    after = contents(photos)
    assert len(after) == 7
    embeddings = {value[0]: value[3] for value in before.values()}
    for path, _, _, embedding in after.values():
        assert embedding == embeddings[path.replace("moved", "sub").replace("copy", "0")]


def test_removed_files_go(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    (photos / "0.png").unlink()
    assert index(tiny_model, photos) == [("0.png", "removed", "indexed")]
    assert "0.png" not in {row[0] for row in contents(photos).values()}
    assert len(contents(photos)) == 5


def test_a_missing_drive_does_not_empty_the_index(
    tiny_model: midsight.Perception, photos: Path, tmp_path: Path
) -> None:
    where = tmp_path / "index"
    index(tiny_model, photos, folder=where)
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(errors.InputError, match="its index knows 6 files. Is a drive missing"):
        index(tiny_model, photos, folder=where)
    assert len(contents(where)) == 6


def test_documents_are_pages_with_text(tiny_model: midsight.Perception, photos: Path) -> None:
    pages = [Sheet([(72, 72, 12, text)]) for text in ("the giraffe report", "nothing here")]
    write_pdf(photos / "report.pdf", pages)
    assert ("report.pdf", "embedded", "indexed") in index(tiny_model, photos)
    with Library(photos) as library:
        hits = library.search(Query(texts=("giraffe",)), tiny_model)
        assert (hits[0].path, hits[0].page, hits[0].text) == ("report.pdf", 1, "the giraffe report")
        assert library.search(Query(words="giraffe"))[0].similarity is None
        assert [hit.page for hit in library.search(Query(words="nothing"))] == [2]


def test_broken_files_are_told_once_and_tried_when_they_change(tiny_model: midsight.Perception, photos: Path) -> None:
    broken = photos / "2.png"
    broken.write_bytes(b"no picture")
    (photos / "empty.jpg").touch()
    (photos / "cut.pdf").write_bytes(b"%PDF-1.4")
    done = index(tiny_model, photos)
    assert [entry[0] for entry in done if entry[2] == "failed"] == ["2.png", "cut.pdf", "empty.jpg"]
    with Indexer(tiny_model, photos, decoder=None) as indexer:
        assert list(indexer.run()) == []
        assert indexer.plan.failed == indexer.summary().failed == 3
    with Library(photos) as library:
        failed = {record.path: record.reason or "" for record in library.files.all("failed")}
    assert "not a picture" in failed["2.png"]
    assert "empty" in failed["empty.jpg"]
    assert [entry[0] for entry in index(tiny_model, photos, retry=True)] == ["2.png", "cut.pdf", "empty.jpg"]
    draw(broken, seed=2)
    assert index(tiny_model, photos) == [("2.png", "embedded", "indexed")]


def test_a_good_file_that_breaks_loses_its_rows(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    (photos / "0.png").write_bytes(b"broken now")
    assert index(tiny_model, photos) == [("0.png", "embedded", "failed")]
    assert len(contents(photos)) == 5


def test_a_decoder_that_hangs_or_dies_costs_one_file(tiny_model: midsight.Perception, photos: Path) -> None:
    for name, content in (("1a.jpg", b"HANG"), ("1b.jpg", b"KILL"), ("1c.mp4", b"KILL")):
        (photos / name).write_bytes(content)
    decoder = (sys.executable, "-c", ODD_DECODER)
    with Indexer(tiny_model, photos, decode_seconds=1.0, decoder=decoder) as indexer:
        done = {outcome.path.name: outcome for outcome in indexer.run()}
    assert len(done) == 9
    assert "1a.jpg: took longer than 1 s to decode" in (done["1a.jpg"].reason or "")
    assert "1b.jpg: its decoder was killed by SIGSEGV" in (done["1b.jpg"].reason or "")
    assert "1c.mp4: its decoder was killed by SIGSEGV" in (done["1c.mp4"].reason or "")
    assert [done[name].result for name in ("1a.jpg", "1b.jpg")] == ["failed", "failed"]
    assert done["1c.mp4"].result == "partial", "stretches of a video that came before a death are kept"
    assert sum(outcome.result == "indexed" for outcome in done.values()) == 6
    assert index(tiny_model, photos) == [], "what is known to hang is not tried again"


def test_a_stop_does_not_wait_for_a_decoder_that_hangs(tiny_model: midsight.Perception, photos: Path) -> None:
    (photos / "1a.jpg").write_bytes(b"HANG")
    heard = []

    def interrupt(*_: object) -> None:
        heard.append(time.monotonic())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)  # as Ctrl-C, while the decoder starts or hangs
    try:
        with Indexer(tiny_model, photos, decoder=(sys.executable, "-c", ODD_DECODER)) as indexer:
            signal.setitimer(signal.ITIMER_REAL, 4.0)
            with pytest.raises(KeyboardInterrupt):
                list(indexer.run())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - heard[0] < 3


def test_odd_things_in_a_folder(tiny_model: midsight.Perception, photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    os.symlink("nowhere", photos / "dangling.jpg")
    os.symlink("loop.jpg", photos / "loop.jpg")
    os.symlink(photos, photos / "sub" / "round")
    os.symlink(photos / "0.png", photos / "link.png")
    odd = os.fsdecode(b"caf\xe9.png")
    draw(photos / odd, seed=50)
    draw(photos / "caf\\xe9.png", seed=51)
    draw(photos / ".hidden.png", seed=52)
    (photos / "notes.txt").write_text("not media")
    done = {name: (did, result) for name, did, result in index(tiny_model, photos)}
    assert {name for name, (did, _) in done.items() if did == "refused"} == {"pipe.jpg", "dangling.jpg", "loop.jpg"}
    assert done[odd] == done["caf\\xe9.png"] == done["link.png"] == ("embedded", "indexed")
    assert len(done) == 12
    assert index(tiny_model, photos) == []
    with Library(photos) as library:
        for seed, name in ((50, odd), (51, "caf\\xe9.png")):
            hit = library.search(Query(images=(photos / name,)), tiny_model)[0]
            assert (hit.path, os.fspath(hit.file.name)) == ("caf\\xe9.png", name)
            assert hit.width == 24 + seed
    (photos / odd).unlink()
    assert [entry[1] for entry in index(tiny_model, photos)] == ["removed"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights as Unix has them")
def test_a_folder_that_cannot_be_listed_keeps_its_rows(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(tiny_model, photos)
    before = contents(photos)
    scandir = os.scandir

    def closed(path: Any) -> Any:  # rights do not stop root, who may run the tests
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with Indexer(tiny_model, photos, decoder=None) as indexer:
        assert list(indexer.run()) == []
        assert indexer.summary().closed == {"sub": "Permission denied"}
    assert contents(photos) == before


def test_files_that_vanish_or_change_while_they_are_read(tiny_model: midsight.Perception, photos: Path) -> None:
    with Indexer(tiny_model, photos, decoder=None) as indexer:
        (photos / "0.png").unlink()
        done = {outcome.path.name: outcome for outcome in indexer.run()}
    assert "no such file" in (done["0.png"].reason or "")
    assert index(tiny_model, photos) == [("0.png", "removed", "failed")]
    draw(photos / "0.png", seed=7)
    with Indexer(tiny_model, photos, decoder=(sys.executable, "-c", CHANGING_DECODER)) as indexer:
        assert [(o.result, "changed while it was read" in (o.reason or "")) for o in indexer.run()] == [
            ("failed", True)
        ]
    assert index(tiny_model, photos) == [("0.png", "embedded", "indexed")]


def test_another_model_is_refused_and_embeds_beside(
    tiny_model: midsight.Perception, photos: Path, tmp_path: Path
) -> None:
    index(tiny_model, photos)
    other = midsight.load(save_tiny(tmp_path / "other", seed=9), device="cpu")
    assert other.dim == tiny_model.dim
    with pytest.raises(errors.InputError, match="not of other .*--reembed"):
        index(other, photos)
    with Library(photos) as library:
        old = contents(photos)
        with pytest.raises(errors.InputError, match="is another model.*midsight index .* --reembed --model other"):
            library.search(Query(texts=("a cat",)), other)
        with Indexer(other, photos, decoder=None, reembed=True) as indexer:
            outcomes = indexer.run()
            next(outcomes)
            assert contents(photos) == old, "the old one is asked until the new one is whole"
            outcomes.close()
        assert contents(photos) == old
        assert all(did == "embedded" for _, did, _ in index(other, photos, reembed=True))
        hits = library.search(Query(images=(photos / "0.png",)), other)
        assert (hits[0].path, round(hits[0].score, 4)) == ("0.png", 1.0)
        assert library.about.identity == other.identity
    assert index(other, photos) == []
    assert sorted(path.name for path in (photos / ".midsight").glob("g*")) == ["g0002"]


def test_an_interrupted_reembedding_goes_on(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midsight.library.index.writer.GROUP_FILES", 1)
    index(tiny_model, photos)
    with Indexer(tiny_model, photos, decoder=None, reembed=True, settings=Settings(frames=3)) as indexer:
        outcomes = indexer.run()
        first = [next(outcomes).path.name for _ in range(2)]
        outcomes.close()
    assert index(tiny_model, photos) == [], "what is usual goes on meanwhile, and takes nothing away"
    done = [name for name, _, _ in index(tiny_model, photos, reembed=True, settings=Settings(frames=3))]
    assert len(done) < 6
    assert not set(first) & set(done)
    with Library(photos) as library:
        assert library.about.settings.frames == 3
        assert library.count() == 6
    with Indexer(tiny_model, photos, decoder=None, reembed=True, settings=Settings(frames=5)):
        pass
    with Indexer(tiny_model, photos, decoder=None, reembed=True, settings=Settings(frames=6)):
        assert sorted(p.name for p in (photos / ".midsight").glob("g*")) == ["g0002", "g0004"], (
            "another takes its place"
        )


def test_other_settings_are_not_mixed(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    with pytest.raises(errors.InputError, match="rows made with Settings.*--reembed"):
        index(tiny_model, photos, settings=Settings(clip_seconds=3.0))
    assert index(tiny_model, photos, settings=Settings()) == []


def test_two_at_once(tiny_model: midsight.Perception, photos: Path) -> None:
    with (
        Indexer(tiny_model, photos, decoder=None),
        pytest.raises(errors.OutputError, match=rf"another process .number {os.getpid()}. is writing this index"),
    ):
        Indexer(tiny_model, photos)
    assert len(index(tiny_model, photos)) == 6


def test_an_index_of_another_folder_or_none(tiny_model: midsight.Perception, photos: Path, tmp_path: Path) -> None:
    index(tiny_model, photos)
    with pytest.raises(errors.InputError, match="is the index of .*photos, not of"):
        index(tiny_model, photos / "sub", folder=photos / ".midsight")
    with pytest.raises(errors.InputError, match="holds other files and no index"):
        index(tiny_model, photos / "sub", folder=photos)
    with pytest.raises(errors.InputError, match="cannot be listed"):
        index(tiny_model, photos / "0.png")
    shutil.move(photos, tmp_path / "elsewhere")
    assert index(tiny_model, tmp_path / "elsewhere") == [], "a folder that moved with its index"


def test_a_newer_version_is_refused(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    manifest = photos / ".midsight" / "index.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(errors.InputError, match="an index of format 2, this midsight reads up to 1. Upgrade"):
        index(tiny_model, photos)
    with pytest.raises(errors.InputError, match="Upgrade"):
        Library(photos)
    manifest.write_text("{")
    with pytest.raises(errors.InputError, match="cannot be read"):
        Library(photos)


def test_tags_stay_with_their_files(tiny_model: midsight.Perception, photos: Path) -> None:
    index(tiny_model, photos)
    with Library(photos) as library:
        assert tag_files(library, "sea", Filter(paths=("sub/*",))) == 3
        assert tag_files(library, "sea", Filter(paths=("sub/1.png", "0.png"))) == 1, "one has it already"
        assert tag_files(library, "sea", Filter(paths=("sub/5.png",)), remove=True) == 1
        with pytest.raises(errors.InputError, match="an empty tag"):
            tag_files(library, " ")
        with (
            Indexer(tiny_model, photos, decoder=None),
            pytest.raises(errors.OutputError, match="is writing this index"),
        ):
            tag_files(library, "sea")

    def tagged() -> set[str]:
        with Library(photos) as library:
            assert library.count() == 6
            return {hit.path for hit in library.search(Query(texts=("a",), where=Filter(tags=("sea",))), current)}

    current = tiny_model
    assert tagged() == {"0.png", "sub/1.png", "sub/3.png"}
    draw(photos / "0.png", seed=77)
    os.rename(photos / "sub" / "1.png", photos / "one.png")
    index(tiny_model, photos)
    assert tagged() == {"0.png", "one.png", "sub/3.png"}
    index(tiny_model, photos, reembed=True, settings=Settings(frames=2))
    assert tagged() == {"0.png", "one.png", "sub/3.png"}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: out of memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_halves_the_batch(
    tiny_model: midsight.Perception,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    index(tiny_model, photos, folder=tmp_path / "whole")
    sizes = limit_memory(tiny_model, monkeypatch, error)
    index(tiny_model, photos, folder=tmp_path / "tight", batch_size=6)
    assert sizes[0] == 6
    assert max(sizes[2:]) <= 3
    whole, tight = contents(tmp_path / "whole"), contents(tmp_path / "tight")
    assert set(whole) == set(tight)
    for row, value in whole.items():
        np.testing.assert_allclose(tight[row][3], value[3], atol=1e-6)


def test_other_errors_of_the_encoder_are_not_taken_for_a_lack_of_memory(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = limit_memory(tiny_model, monkeypatch, RuntimeError("a shape"))
    with pytest.raises(RuntimeError, match="a shape"):
        index(tiny_model, photos, batch_size=6)
    assert sizes == [6]


def limit_memory(model: midsight.Perception, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Lets the encoder fail on more than two pictures; gives the sizes that it is asked for."""
    encode, sizes = model._encode, []

    def little_memory(images: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 2:
            raise error
        return encode(images)

    monkeypatch.setattr(model, "_encode", little_memory)
    return sizes


def test_a_vector_without_direction_is_a_failure(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = tiny_model._encode
    monkeypatch.setattr(tiny_model, "_encode", lambda images: encode(images) * 0)
    assert {result for _, _, result in index(tiny_model, photos)} == {"failed"}
    assert contents(photos) == {}


class Crash(BaseException):
    """Stands for a kill: nothing in the package catches it."""


def crashing(monkeypatch: pytest.MonkeyPatch, point: int, *, before: bool) -> Iterator[int]:
    """Makes the `point`-th commit crash, before or after it has happened."""
    calls = 0

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def crash(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point and before:
                raise Crash
            result = real(*args, **options)
            if calls == point:
                raise Crash
            return result

        monkeypatch.setattr(owner, name, crash)

    from midsight.library.index import filetable, manifest
    from midsight.library.stores import lance

    wrap(lance.LanceStore, "replace")
    wrap(lance.LanceStore, "optimize")
    wrap(filetable.FileTable, "put")
    wrap(filetable.FileTable, "remove")
    wrap(manifest, "_write")
    yield calls


@pytest.mark.parametrize("before", [True, False])
def test_stopped_at_every_commit_and_started_again(
    tiny_model: midsight.Perception, photos: Path, tmp_path: Path, before: bool
) -> None:
    whole = tmp_path / "whole"
    index(tiny_model, photos, folder=whole, batch_size=1)
    expected = {value[0]: value for value in contents(whole).values()}
    stopped = 0
    for point in range(1, 100):
        where = tmp_path / f"index{point}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("midsight.library.index.writer.GROUP_FILES", 2)
            next(crashing(patch, point, before=before))
            try:
                index(tiny_model, photos, folder=where, batch_size=1)
            except Crash:
                stopped += 1
            else:
                break
        if (where / "index.json").exists() and any(where.glob("g*/rows/*")):
            assert all(expected[value[0]] == value for value in contents(where).values())
        index(tiny_model, photos, folder=where, batch_size=1)
        assert {value[0]: value for value in contents(where).values()} == expected, f"stopped at commit {point}"
        assert index(tiny_model, photos, folder=where, batch_size=1) == []
        shutil.rmtree(where)
    assert stopped >= 8


@pytest.mark.parametrize("before", [True, False])
def test_stopped_while_following_changes(
    tiny_model: midsight.Perception, photos: Path, tmp_path: Path, before: bool
) -> None:
    where, start = tmp_path / "index", tmp_path / "start"
    index(tiny_model, photos, folder=start, batch_size=1)
    draw(photos / "0.png", seed=100)
    (photos / "2.png").unlink()
    os.rename(photos / "4.png", photos / "four.png")
    shutil.copytree(start, where)
    index(tiny_model, photos, folder=where, batch_size=1)
    expected = contents(where)
    stopped = 0
    for point in range(1, 100):
        shutil.rmtree(where)
        shutil.copytree(start, where)
        with pytest.MonkeyPatch.context() as patch:
            next(crashing(patch, point, before=before))
            try:
                index(tiny_model, photos, folder=where, batch_size=1)
            except Crash:
                stopped += 1
            else:
                break
        assert len(contents(where)) >= 4
        index(tiny_model, photos, folder=where, batch_size=1)
        assert contents(where) == expected, f"stopped at commit {point}"
    assert stopped >= 5


def test_outcomes_are_committed_when_they_are_given_out(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midsight.library.index.writer.GROUP_FILES", 2)
    with Indexer(tiny_model, photos, decoder=None) as indexer:
        outcomes = indexer.run()
        given: list[FileOutcome] = []
        for _ in range(4):
            given.append(next(outcomes))
            paths = {value[0] for value in contents(photos).values()}
            assert {os.fspath(o.path.relative_to(photos)) for o in given} <= paths
        outcomes.close()


def test_a_few_removed_at_a_time(
    tiny_model: midsight.Perception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "_REMOVED_AT_ONCE", 2)
    index(tiny_model, photos)
    shutil.rmtree(photos / "sub")
    assert len(index(tiny_model, photos)) == 3
    assert len(contents(photos)) == 3
