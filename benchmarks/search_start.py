"""From the start of a process to its first answer, and answers to words while it runs."""

import asyncio
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import midsight
from benchmarks.captions import CAPTIONS
from benchmarks.common import ROOT, in_turn, ratio, verdict
from benchmarks.names import OPEN_CLIP_NAMES
from benchmarks.serving import Client, Running, midsight_server
from benchmarks.twins import Twins

NAME = "PE-Core-T16-384"
PEER = "open_clip and lancedb"
STARTS, ROUNDS, ASKED = 7, 15, 300
START_SECONDS, WARM_SECONDS = 2.5, 0.06
ABOUT = (
    "Start: a fresh `midsight search WORDS`, from the start of the process to its end, by the clock and in CPU time; "
    f"beside it, with the same weights and the same rows, a small program of {PEER} that loads the model, embeds the "
    "words and asks the table. Warm: words that never come twice, embedded and looked for among 10,000 rows; in one "
    f"process beside {PEER}, and through `midsight serve` by one client."
)


def rows(scratch: Path, add_rows: Any) -> list[dict[str, str]]:
    """Start and warm, of the embedded model and beside the peer.

    Args:
        add_rows: puts 10,000 made rows of its width into a store.
    """
    pair = Twins(NAME)
    pair.save(scratch)
    found = []
    for name, load in (("embedded", None), ("T16-384", str(scratch / "midsight"))):
        folder = make_index(scratch / f"{name} pictures", load, add_rows)
        found.append(start_row(name, folder, scratch, with_peer=load is not None))
        if load is None:
            found.append(serve_row(folder))
        else:
            found.append(warm_row(folder, pair.open_clip))
    return found


def make_index(folder: Path, load: str | None, add_rows: Any) -> Path:
    """An index of one picture by a model, and made rows beside it."""
    from midsight.library.index import About, Indexer, Library

    folder.mkdir()
    picture = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.jpg"))
    (folder / picture.name).write_bytes(picture.read_bytes())
    model = midsight.load(load, device="cpu", threads=1)
    with Indexer(model, folder, load=About("", "", 0, load=load), decoder=None) as indexer:
        for outcome in indexer.run():
            assert outcome.result == "indexed", outcome
    with Library(folder) as library:
        add_rows(library.store)
        library.store.optimize()
    return folder


def start_row(name: str, folder: Path, scratch: Path, *, with_peer: bool) -> dict[str, str]:
    """Whole processes, in turn."""
    commands = {"midsight": [sys.executable, "-m", "midsight.cli.main", "search", "a red bicycle", "--index", folder]}
    if with_peer:
        program = f"from benchmarks.child import first_answer_open_clip as ask; ask({str(scratch)!r}, {NAME!r}, "
        commands[PEER] = [sys.executable, "-c", f"{program}{rows_of(folder)!r})"]
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in commands}
    for number in range(STARTS + 1):  # the first one warms the system's cache
        for who, command in commands.items():
            one = _spent(list(map(str, command)))
            if number:
                taken[who].append(one)
    cpu, wall = ({who: [one[at] for one in several] for who, several in taken.items()} for at in (0, 1))
    seconds = float(np.median(wall["midsight"]))
    met = "met" if seconds < START_SECONDS else "**missed**"
    return {
        "Case": f"start to first answer, {name}",
        "Speed": str(ratio(cpu["midsight"], cpu[PEER], PEER)) if with_peer else f"{seconds:.2f} s",
        "Goal": f"< {START_SECONDS} s, {met}",
        "p50 / p99": "; ".join(f"{who} {np.median(cpu[who]):.1f} s of CPU" for who in commands),
        "By the clock": "; ".join(f"{who} {np.median(wall[who]):.2f} s" for who in commands),
    }


def warm_row(folder: Path, peer: Any) -> dict[str, str]:
    """In this process, by the clock."""
    import lancedb
    import open_clip
    import torch

    from midsight.library.index import Library, Query

    library, words = Library(folder), _words()
    model = library.open_model("cpu", threads=1)
    table = lancedb.connect(rows_of(folder)).open_table("rows")
    tokenizer = open_clip.get_tokenizer(OPEN_CLIP_NAMES[NAME])

    def theirs() -> Any:
        with torch.inference_mode():
            vector = peer.encode_text(tokenizer([next(words)]), normalize=True)[0].numpy()
        return table.search(vector).limit(10).to_list()

    def ours() -> Any:
        return library.search(Query(texts=(next(words),)), model)

    times = in_turn({"midsight": ours, PEER: theirs}, ROUNDS, time.perf_counter)
    found = ratio(times["midsight"], times[PEER], PEER)
    row = _warm("words, warm, T16-384", [_seconds(ours) for _ in range(ASKED)])
    return row | {"Speed": str(found), "Goal": verdict(found, 1.0)}


def serve_row(folder: Path) -> dict[str, str]:
    """Through HTTP, one question after the other."""
    with midsight_server("--index", str(folder)) as server:
        return _warm("words, warm, embedded, through the server", asyncio.run(_asked(server)))


async def _asked(server: Running) -> list[float]:
    client, words, taken = Client(server), _words(), []
    for number in range(ASKED + 20):  # the first ones warm up
        reply = await client.post("/v1/search", json.dumps({"input": [next(words)], "top": 10}).encode())
        if reply.status != 200 or len(reply.json["data"]) != 10:
            raise RuntimeError(f"status {reply.status}: {reply.body[:200]!r}")
        if number >= 20:
            taken.append(reply.seconds)
    client.close()
    return taken


def rows_of(folder: Path) -> str:
    """Where LanceDB finds the rows."""
    return str(folder / ".midsight" / "g0001" / "rows")


def _words() -> Iterator[str]:
    """Texts that never come twice, so that no embedding is remembered."""
    return (f"{CAPTIONS[number % len(CAPTIONS)]} number {number}" for number in itertools.count())


def _warm(case: str, taken: list[float]) -> dict[str, str]:
    p50, p99 = (float(np.percentile(taken, share)) for share in (50, 99))
    return {
        "Case": case,
        "Speed": f"{1000 * p50:.1f} ms",
        "Goal": f"p99 < {1000 * WARM_SECONDS:.0f} ms, " + ("met" if p99 < WARM_SECONDS else "**missed**"),
        "p50 / p99": f"{1000 * p50:.1f} / {1000 * p99:.1f} ms",
    }


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _spent(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a process and its children."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall
