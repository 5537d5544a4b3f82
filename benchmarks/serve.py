"""A server under 1, 8 and 32 clients, beside a plain handler that calls the model once a request."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import media
from benchmarks.captions import CAPTIONS
from benchmarks.common import check_same, ratio, verdict
from benchmarks.report import Section
from benchmarks.serving import Client, Running, data_url, embedding_request, midsight_server, rows, running

PATH = "/v1/embeddings"
CLIENTS = (1, 8, 32)
ROUNDS, SECONDS = 5, 2.5
PICTURE = (640, 480)
PEER = "plain handler"
# a batch cannot be faster than one by one where nothing waits; with many clients it must be
GOALS = {("texts", 32): 1.5, ("pictures", 32): 1.2}
INTRO = (
    f"The embedded model behind HTTP on this machine, requests in base64 for one input each: captions that never come "
    f"twice, and made photographs of {PICTURE[0]}x{PICTURE[1]} pixels as JPEG in `data:` URLs. Each client asks again "
    f"as soon as it has its answer. `midsight serve` joins what waits to batches; the {PEER} is a FastAPI function "
    "that calls `embed_texts` or `embed_images` of the same model once a request, in FastAPI's threads, without a "
    "queue and without limits. `midsight serve --threads` has the number of CPUs; the plain handler has what midsight "
    "takes by itself for each call, several of which run at once. Both servers run side by side and take turns; one is "
    f"idle while the other is asked. Speed is requests per second of wall time, in {ROUNDS} paired rounds of "
    f"{SECONDS:g} s. "
    "Clients and servers share the machine's CPUs."
)


@dataclass(frozen=True)
class Load:
    """What some clients saw in one round."""

    rate: float  # answers a second
    seconds: list[float]  # of each answer


def run() -> Section:
    """Both servers in turn."""
    section = Section("A server and its clients", INTRO)
    peer = [sys.executable, "-m", "benchmarks.serve_peer"]
    with midsight_server(threads=os.cpu_count() or 1) as ours, running(peer) as theirs:
        asyncio.run(_compare(section, ours, theirs))
    return section


async def _compare(section: Section, ours: Running, theirs: Running) -> None:
    pictures = [embedding_request(data_url(media.jpeg(*PICTURE, seed=seed))) for seed in range(16)]
    texts = (embedding_request(f"{CAPTIONS[n % len(CAPTIONS)]} number {n}") for n in itertools.count())
    for what, bodies in (("texts", texts), ("pictures", itertools.cycle(pictures))):
        both = [next(bodies) for _ in range(4)]
        found = [
            np.concatenate([rows(await Client(server).post(PATH, one)) for one in both]) for server in (ours, theirs)
        ]
        check_same(found[0], found[1], what)
        for clients in CLIENTS:
            loads: dict[Running, list[Load]] = {ours: [], theirs: []}
            for number in range(ROUNDS + 1):  # the first one warms up
                for server in (ours, theirs):
                    load = await ask(server, bodies, clients, SECONDS if number else 1.0)
                    loads[server].append(load)
            section.rows.append(_row(what, clients, loads[ours][1:], loads[theirs][1:]))


async def ask(server: Running, bodies: "itertools.cycle[bytes]", clients: int, seconds: float) -> Load:
    """So many clients for a while."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(server)
        while time.perf_counter() < end:
            reply = await client.post(PATH, next(bodies))
            if reply.status != 200:
                raise RuntimeError(f"status {reply.status}: {reply.body[:200]!r}")
            taken.append(reply.seconds)
        client.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return Load(len(taken) / (time.perf_counter() - start), taken)


def _row(what: str, clients: int, ours: Sequence[Load], theirs: Sequence[Load]) -> dict[str, str]:
    found = ratio([1 / load.rate for load in ours], [1 / load.rate for load in theirs], PEER)
    return {
        "Case": f"{what}, {clients} client{'s' if clients > 1 else ''}",
        "Speed": str(found),
        "Goal": verdict(found, GOALS.get((what, clients))),
        "Requests a second": f"{_rate(ours):.0f} ({PEER} {_rate(theirs):.0f})",
        "p50": f"{_time(ours, 50):.0f} ms ({_time(theirs, 50):.0f} ms)",
        "p99": f"{_time(ours, 99):.0f} ms ({_time(theirs, 99):.0f} ms)",
    }


def _rate(loads: Sequence[Load]) -> float:
    return float(np.median([load.rate for load in loads]))


def _time(loads: Sequence[Load], percentile: float) -> float:
    return 1000 * float(np.percentile([seconds for load in loads for seconds in load.seconds], percentile))
