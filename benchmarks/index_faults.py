"""`python -m benchmarks.index_faults [broken] [kills] [compaction] [disk]`: what an index survives, with figures.

broken: a folder of good files, 3 % broken in 40 ways, one that hangs its decoder and one that kills it.
kills: SIGKILL at random moments while an index follows changes of its folder; compaction: the same while it compacts.
disk: an index on a file system of 1 MB that runs full.

All work with the index is done in forked processes, each of which can be killed; the parent holds the loaded model.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import argparse  # noqa: E402
import importlib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import select  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import midsight  # noqa: E402
from midsight.api import Perception  # noqa: E402
from midsight.errors import OutputError  # noqa: E402

SHARE_BROKEN = 0.03
DECODE_SECONDS = 5.0
CLOSE = 1e-5  # how far two embeddings of the same pixels may be apart: batches of other sizes round differently
# The decoder, with files that hang it or kill it by their first bytes.
ODD_DECODER = """
import os, signal, time
from midsight.library.index import worker
real = worker.pieces
def pieces(path, *rest):
    first = path.read_bytes()[:4]
    if first == b"HANG":
        time.sleep(10000)
    if first == b"KILL":
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from real(path, *rest)
worker.pieces = pieces
worker.main()
"""
_MOST_TRIES = 4
SUFFIXES = ("jpg", "png", "gif", "webp", "bmp", "tif", "pdf", "mp4")


def draw(path: Path, seed: int) -> Path:
    """A small picture that no other seed gives: a gradient under a few rectangles."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
    pixels = np.array(corners.resize((160, 120), Image.Resampling.BILINEAR))
    for _ in range(4):
        x, y = rng.integers(0, 120), rng.integers(0, 90)
        pixels[y : y + 30, x : x + 40] = rng.integers(0, 256, 3)
    Image.fromarray(pixels).save(path)
    return path


def break_files(folder: Path, count: int) -> dict[str, str]:
    """Broken files, `count` of them in 40 ways in turn; gives the way by name."""
    good = {suffix: _good(suffix) for suffix in SUFFIXES}
    noise = np.random.default_rng(0).bytes(3000)
    ways: list[tuple[str, str, bytes | str]] = []
    for suffix in SUFFIXES:
        ways += [("empty", suffix, b""), ("head alone", suffix, good[suffix][:12]), ("noise", suffix, noise)]
        ways += [("a web page", suffix, b"<!DOCTYPE html><title>404</title>")]
    ways += [("half", suffix, good[suffix][: len(good[suffix]) // 2]) for suffix in ("jpg", "png", "tif", "bmp")]
    ways += [
        ("60,000 pixels a side", "png", _bomb()),
        ("a pipe", "jpg", "pipe"),
        ("a link to nothing", "png", "nothing"),
    ]
    ways += [("a loop of links", "gif", "loop")]
    assert len(ways) == 40, len(ways)
    made = {}
    for number in range(count):
        way, suffix, content = ways[number % len(ways)]
        path = folder / f"broken{number:05d}.{suffix}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(path.name if content == "loop" else "nowhere")
        made[path.name] = f"{suffix}: {way}"
    return made


def in_child(work: Callable[..., Any], *args: Any, kill_after: float | None = None) -> Any:
    """What a function gives in a forked process, as JSON holds it; None where it was killed first."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lancedb's: nothing of it has run in the parent
        child = os.fork()
    if not child:
        _answer(writing, work, args)
    os.close(writing)
    try:
        if kill_after is not None and not select.select([reading], [], [], kill_after)[0]:
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as file:
            answer = file.read()
    finally:
        os.waitpid(child, 0)
    if not answer:
        if kill_after is None:
            raise RuntimeError(f"{work.__name__} died")
        return None
    found = json.loads(answer)
    if "error" in found:
        raise RuntimeError(found["error"])
    return found["result"]


def run_index(
    model: Perception, root: Path, group: int = 16, decoder: Any = None, load: str | None = None
) -> dict[str, Any]:
    """A run of the indexer; what it did, by name, and how long it took."""
    from midsight.library.index import About, Indexer, writer

    writer.GROUP_FILES = group
    opened = About("", "", 0, load=load)
    with Indexer(model, root, load=opened, decoder=decoder, decode_seconds=DECODE_SECONDS) as indexer:
        start = time.perf_counter()
        done = {outcome.path.name: (outcome.did, outcome.result) for outcome in indexer.run()}
        return {"done": done, "seconds": time.perf_counter() - start}


def state(root: Path) -> dict[str, Any]:
    """Everything that an index holds, opened as a searcher does; raises where a row is there twice."""
    from midsight.library.index import Library

    with Library(root) as library:
        rows = [row for batch in library.store.scan(["id", "path", "embedding"]) for row in batch.to_pylist()]
        assert len({row["id"] for row in rows}) == len(rows), "a row is there twice"
        if rows:
            assert library.store.search(np.array(rows[0]["embedding"], np.float32), 1)[0].row["path"]
        records = {record.path: (record.outcome, record.hash) for record in library.files.all()}
        return {"rows": {row["id"]: (row["path"], row["embedding"]) for row in rows}, "files": records}


def look_and_go_on(model: Perception, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state as it is found, and the state after a run to the end."""
    now = state(root)
    run_index(model, root)
    return now, state(root)


def same(a: dict[str, Any], b: dict[str, Any], *, part: bool = False) -> bool:
    """Whether two states hold the same rows; with `part`, whether all rows of the first are among the second's."""
    if not (set(a["rows"]) <= set(b["rows"]) if part else set(a["rows"]) == set(b["rows"])):
        return False
    return all(
        path == b["rows"][row][0] and np.abs(np.subtract(embedding, b["rows"][row][1])).max() < CLOSE
        for row, (path, embedding) in a["rows"].items()
    ) and (part or a["files"] == b["files"])


def broken(model: Perception, folder: Path, count: int, damaged: int, load: str | None) -> list[str]:
    """A folder of `count` files of which some are broken; lines that say how it went.

    Args:
        load: what opens the model again, for the command line.
    """
    bad = damaged - 2
    (folder / "photos").mkdir()
    root = folder / "photos"
    good = [draw(root / f"{i % 10}{i:05d}.jpg", seed=i) for i in range(count - bad - 2)]
    ways = break_files(root, bad) | {"hang.jpg": "hangs", "kill.jpg": "kills"}
    (root / "hang.jpg").write_bytes(b"HANG")
    (root / "kill.jpg").write_bytes(b"KILL")
    run = in_child(run_index, model, root, 512, (sys.executable, "-c", ODD_DECODER), load)
    failed = {name for name, (_, result) in run["done"].items() if result != "indexed"}
    found = in_child(state, root)
    assert failed == set(ways), f"differ: {sorted(failed ^ set(ways))[:10]}"
    listed = subprocess.run(_command("index", root, "--failed", "--json"), capture_output=True, text=True, check=True)
    assert {json.loads(line)["path"] for line in listed.stdout.splitlines()} == set(ways)
    code = subprocess.run(_command("index", root), capture_output=True, check=False).returncode
    wrong = in_child(wrong_rows, model, root, [os.fspath(path) for path in good])
    assert code == 1
    assert len(found["rows"]) == len(good)
    return [
        f"broken: {count} files, {len(ways)} of them broken in {len(set(ways.values()))} ways: the job ended after "
        f"{run['seconds']:.0f} s",
        f"  {len(good) - wrong} of {len(good)} good rows equal the plain loop's; {len(failed)} of {len(ways)} broken "
        f"ones listed; exit code {code}",
    ]


def wrong_rows(model: Perception, root: Path, paths: list[str]) -> int:
    """How many good files have another row than the plain loop gives."""
    rows = {path: embedding for path, embedding in state(root)["rows"].values()}
    plain = (outcome.unwrap() for outcome in model.iter_embed(paths))
    return sum(bool(np.abs(e - rows[Path(p).name]).max() > CLOSE) for p, e in zip(paths, plain, strict=True))


def kills(model: Perception, folder: Path, count: int, times: int, seed: int = 0) -> list[str]:
    """SIGKILL while an index follows changes; then a look without any repair, and a run to the end."""
    root, begun = folder / "followed", folder / "begun"
    root.mkdir()
    for i in range(count):
        draw(root / f"{i:05d}.jpg", seed=i)
    in_child(run_index, model, root)
    before = in_child(state, root)
    for i in range(count // 10):
        draw(root / f"{i:05d}.jpg", seed=10_000 + i)  # changed
        (root / f"{count // 2 + i:05d}.jpg").unlink()  # gone
        os.rename(root / f"{count - 1 - i:05d}.jpg", root / f"moved{i:05d}.jpg")
        draw(root / f"new{i:05d}.jpg", seed=20_000 + i)
    shutil.copytree(root / ".midsight", begun)
    seconds = _timed(lambda: in_child(run_index, model, root))
    after = in_child(state, root)
    moments, killed, number = random.Random(seed), 0, 0
    while killed < times and number < _MOST_TRIES * times:  # some moments lie behind the end
        number += 1
        shutil.rmtree(root / ".midsight")
        shutil.copytree(begun, root / ".midsight")
        moment = moments.uniform(0.05, 1) * seconds
        lasted = _timed_kill(run_index, model, root, moment=moment)
        killed, seconds = (killed + 1, seconds) if lasted is None else (killed, min(seconds, lasted))
        now, end = in_child(look_and_go_on, model, root)
        assert _among(now, before, after), f"kill {number} after {moment:.2f} s: a row that neither state has"
        lost = set(before["rows"]) & set(after["rows"]) - set(now["rows"])
        assert not lost, f"kill {number} after {moment:.2f} s: {len(lost)} rows lost"
        assert same(end, after), f"kill {number} after {moment:.2f} s: another content in the end"
    return [
        f"kills: {killed} of {number} runs killed at random moments of {seconds:.1f} s, {count} files: opened each "
        "time without repair, no row lost, none twice; the next run ended in the same content each time"
    ]


def compaction(folder: Path, times: int, commits: int, seed: int = 0) -> list[str]:
    """SIGKILL while a store of many small pieces is put together."""
    begun, here = folder / "pieces", folder / "compacted"
    in_child(many_commits, begun, commits)
    before = in_child(stored, begun)
    shutil.copytree(begun, here)
    seconds = _timed(lambda: in_child(compact, here))
    moments, killed, number = random.Random(seed), 0, 0
    while killed < times and number < _MOST_TRIES * times:  # some moments lie behind the end
        number += 1
        shutil.rmtree(here)
        shutil.copytree(begun, here)
        moment = moments.uniform(0.2, 1) * seconds
        lasted = _timed_kill(compact, here, moment=moment)
        killed, seconds = (killed + 1, seconds) if lasted is None else (killed, min(seconds, lasted))
        now, end = in_child(look_and_compact, here)
        assert now == before, f"kill {number} after {moment:.2f} s: other rows"
        assert end == before, f"kill {number} after {moment:.2f} s: other rows in the end"
    left = in_child(orphans, here)
    return [
        f"compaction: {killed} of {number} killed at random moments of {seconds:.2f} s, {commits} commits: the same "
        f"rows each time, before and after another one; orphaned bytes {left:.1%}"
    ]


def many_commits(folder: Path, commits: int) -> None:
    """A store after so many updates of one file each."""
    from midsight.library.stores import open_store

    store = open_store(folder, 64, create=True)
    for i in range(commits):
        store.replace([f"{i % 150:032x}"], _made_rows(i))


def compact(folder: Path) -> bool:
    """One compaction that keeps no old version."""
    from datetime import timedelta

    from midsight.library.stores import lance, open_store

    lance.KEPT = timedelta(milliseconds=1)
    open_store(folder, 64).optimize()
    return True


def look_and_compact(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """All rows as they are found, and after a whole compaction."""
    now = stored(folder)
    compact(folder)
    return now, stored(folder)


def stored(folder: Path) -> dict[str, Any]:
    """All rows of a store."""
    from midsight.library.stores import open_store

    batches = open_store(folder, 64).scan(["id", "mtime", "embedding"])
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows), "a row is there twice"
    return {row["id"]: [row["mtime"], row["embedding"]] for row in rows}


def orphans(folder: Path) -> float:
    """Share of the bytes that a fresh copy of the rows would not have."""
    from midsight.library.stores import open_store

    compact(folder)
    fresh = folder.with_name("fresh")
    rows = open_store(folder, 64).read(list(open_store(folder, 64).files()))
    open_store(fresh, 64, create=True).replace(rows["file"].to_pylist(), rows)
    sizes = [
        sum(path.stat().st_size for path in (place / "rows.lance" / "data").rglob("*")) for place in (folder, fresh)
    ]
    return sizes[0] / sizes[1] - 1


def disk(model: Perception, folder: Path, count: int, size: int) -> list[str]:
    """An index on a file system of so many bytes that runs full."""
    root = folder / "growing"
    root.mkdir()
    for i in range(20):
        draw(root / f"{i:05d}.jpg", seed=i)
    with _small_disk(folder / "small", size) as place:
        in_child(index_at, model, root, place / "index")
        before = in_child(state, place / "index")
        for i in range(20, 20 + count):
            draw(root / f"{i:05d}.jpg", seed=i)
        message = in_child(index_at, model, root, place / "index")
        assert message is not None, "the disk did not run full; raise --count"
        now = in_child(state, place / "index")
        assert same(before, now, part=True), "rows that were there are gone"
    return [
        f"disk: {size / 2**20:.1f} MB ran full after {len(now['rows'])} rows; the index opens and holds all "
        f"{len(before['rows'])} earlier rows; the message: {message}"
    ]


def index_at(model: Perception, root: Path, place: Path) -> str | None:
    """A run with the index in another place; the message where it could not be written."""
    from midsight.library.index import Indexer

    try:
        with Indexer(model, root, place, decoder=None) as indexer:
            for _ in indexer.run():
                pass
    except OutputError as error:
        return str(error)
    return None


def main() -> None:
    """Runs what is asked for, and prints a line or two for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("broken", "kills", "compaction", "disk")
    parser.add_argument("names", nargs="*", metavar="FAULT", help=f"{', '.join(names)}; all if none is named")
    parser.add_argument("--count", type=int, default=10_000, help="files of the folder with broken ones")
    parser.add_argument("--broken", type=int, help="how many of them are broken; 3 %% if not given")
    parser.add_argument("--files", type=int, default=200, help="files of the folder whose index is killed")
    parser.add_argument("--commits", type=int, default=200, help="of the store whose compaction is killed")
    parser.add_argument("--model", type=Path, help="a folder; the embedded model if not given")
    parser.add_argument("--kills", type=int, default=50, help="how many runs, and how many compactions, are killed")
    parser.add_argument("--disk", type=int, default=2**20, help="bytes of the small file system")
    args = parser.parse_args()
    if set(args.names) - set(names):
        parser.error(f"there are {', '.join(names)}")
    load = None if args.model is None else os.fspath(args.model.resolve())
    model = midsight.load(load, device="cpu", threads=1)
    model.identity  # noqa: B018  (once, not in each fork)
    importlib.import_module("lancedb")  # the same
    work: dict[str, Callable[[Path], list[str]]] = {
        "broken": lambda folder: broken(
            model, folder, args.count, args.broken or round(args.count * SHARE_BROKEN), load
        ),
        "kills": lambda folder: kills(model, folder, args.files, args.kills),
        "compaction": lambda folder: compaction(folder, args.kills, args.commits),
        "disk": lambda folder: disk(model, folder, 1000, args.disk),
    }
    for name in args.names or names:
        with tempfile.TemporaryDirectory(prefix="index-faults-") as folder:
            for line in work[name](Path(folder)):
                print(line, flush=True)


def _answer(writing: int, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """The forked process: works, answers, and leaves without what its parent has to do at exit."""
    try:
        answer = {"result": work(*args)}
    except BaseException:  # noqa: BLE001 (told to the parent)
        answer = {"error": traceback.format_exc()}
    data = memoryview(json.dumps(answer).encode())
    while data:
        data = data[os.write(writing, data) :]
    os._exit(0)


def _among(now: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether every row is one of the state before or of the state after."""
    for row, (path, embedding) in now["rows"].items():
        states = [s["rows"][row] for s in (before, after) if row in s["rows"]]
        if not any(path == p and np.abs(np.subtract(embedding, e)).max() < CLOSE for p, e in states):
            return False
    return True


def _good(suffix: str) -> bytes:
    if suffix == "pdf":
        return b"%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
    if suffix == "mp4":
        return next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4")).read_bytes()
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return buffer.getvalue()


def _bomb() -> bytes:
    """The head of a PNG of 60,000 x 60,000 pixels."""
    import zlib

    head = b"IHDR" + (60_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + head + zlib.crc32(head).to_bytes(4)


def _made_rows(number: int) -> Any:
    from midsight.library.index.filetable import FileRecord
    from midsight.library.index.rows import Embedded, make_rows
    from midsight.library.index.worker import Place
    from midsight.library.stores import row_schema

    vector = np.random.default_rng(number).normal(size=64).astype(np.float32)
    record = FileRecord("made", "image", "indexed", 1, number * 10**9, "00", 1)
    rows = make_rows([(record, [Embedded(Place("image"), vector / np.linalg.norm(vector))])], 64).to_pylist()
    rows[0]["id"] = rows[0]["file"] = f"{number % 150:032x}"
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=row_schema(64))


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "midsight.cli.main", *map(str, words)]


def _timed_kill(work: Callable[..., Any], *args: Any, moment: float) -> float | None:
    """None where the work was killed at that moment, else how long it took: later moments must not lie behind it."""
    start = time.perf_counter()
    return None if in_child(work, *args, kill_after=moment) is None else time.perf_counter() - start


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes; needs the right to mount."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


if __name__ == "__main__":
    main()
