"""What a server must stand: `python -m benchmarks.serve_faults NAME ...`, all of it without a name (see `FAULTS`).

Each prints its figures and what they had to be; the exit code is 1 where one of them is not.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import hostile, media, serve_contract  # noqa: E402
from benchmarks.serving import (  # noqa: E402
    POLICY,
    Client,
    Reply,
    Running,
    data_url,
    embedding_request,
    midsight_server,
    rows,
)

CLIENTS, TIMES_CAPACITY, SECONDS, DEADLINE = 200, 4, 60.0, 5.0
LATE, BEAT = 0.05, 0.005  # seconds
PICTURES = 16
EMBEDDINGS = "/v1/embeddings"
REQUESTS, WARM_UP = 20_000, 2_000
AT_ONCE = 32  # more than the largest batch of pictures
CASES, DEATHS = 2_000, 100
failed: list[str] = []


def check(what: str, found: float, most: float, unit: str = "") -> None:
    """Print a figure with its limit."""
    ok = found <= most
    print(f"  {what}: {found:.4g} {unit} (at most {most:g}) {'ok' if ok else 'NOT MET'}", flush=True)
    if not ok:
        failed.append(what)


def overload() -> None:
    """200 clients that ask for four times of what the server can do."""
    bodies = [embedding_request(data_url(media.jpeg(320, 240, seed))) for seed in range(PICTURES)]
    with midsight_server("--timeout", f"{DEADLINE:g}") as server:
        asyncio.run(_overload(server, bodies))


async def _overload(server: Running, bodies: list[bytes]) -> None:
    alone = Client(server)
    expected = [rows(await alone.post(EMBEDDINGS, body)) for body in bodies]
    capacity = await _capacity(server, bodies)
    interval = CLIENTS / (TIMES_CAPACITY * capacity)
    print(f"  capacity {capacity:.1f} requests/s; {CLIENTS} clients ask {TIMES_CAPACITY * capacity:.0f} times a second")
    memory: list[float] = []
    replies: list[Reply] = []
    differences: list[float] = []
    beats: list[tuple[float, float]] = []
    start = time.perf_counter()

    async def one(number: int) -> None:
        client = Client(server)
        turn = start + interval * number / CLIENTS
        while turn < start + SECONDS:
            await asyncio.sleep(max(0.0, turn - time.perf_counter()))
            which = np.random.randint(PICTURES)
            reply = await client.post(EMBEDDINGS, bodies[which])
            replies.append(reply)
            if reply.status == 200:
                differences.append(float(np.abs(rows(reply) - expected[which]).max()))
            turn = max(turn + interval, time.perf_counter())
        client.close()

    async def beat() -> None:
        """How late this process itself is: what it sees of an answer cannot be earlier."""
        while time.perf_counter() < start + SECONDS:
            before = time.perf_counter()
            await asyncio.sleep(BEAT)
            beats.append((before, time.perf_counter() - before - BEAT))

    async def watch() -> None:
        while time.perf_counter() < start + SECONDS:
            memory.append(server.memory)
            await asyncio.sleep(1)

    before = loop_times(server.pid)
    await asyncio.gather(watch(), beat(), *(one(number) for number in range(CLIENTS)))
    ran, waited, slices = (now - then for now, then in zip(loop_times(server.pid), before, strict=True))
    counts = Counter(reply.status for reply in replies)
    done = [reply.seconds for reply in replies if reply.status == 200]
    refused = [reply.seconds for reply in replies if reply.status == 503]
    print(
        f"  answers by status: {dict(counts)}; offered {len(replies) / SECONDS:.0f}/s, done {len(done) / SECONDS:.1f}/s"
    )
    print(f"  200: median {np.median(done):.2f} s, longest {max(done):.2f} s")
    print(f"  503: median {1000 * np.median(refused):.1f} ms, p99 {1000 * np.percentile(refused, 99):.1f} ms")
    check("answers with 200 after their deadline", sum(seconds > DEADLINE for seconds in done), 0)
    check("other statuses than 200, 503, 504", sum(n for s, n in counts.items() if s not in (200, 503, 504)), 0)
    check("504 of all that were let in", 100 * counts[504] / (counts[504] + len(done)), 1, "%")
    late = [reply for reply in replies if reply.status == 503 and reply.seconds > LATE]
    own = [delay for _, delay in beats]
    print(
        f"  503 later than 50 ms as the client sees it: {100 * len(late) / len(refused):.2f} %; its own delay: "
        f"median {1000 * np.median(own):.1f} ms, p99 {1000 * np.percentile(own, 99):.1f} ms"
    )
    inside = np.array([reply.in_server for reply in replies if reply.status == 503])
    print(
        f"  the server's event loop ran for {ran:.1f} s and waited {waited:.1f} s for a CPU, "
        f"{1000 * waited / max(1, slices):.2f} ms each time: that is the machine's part"
    )
    print(f"  503 within the server: median {1000 * np.median(inside):.1f} ms, longest {1000 * inside.max():.1f} ms")
    check(
        "503 later than 50 ms, of which the client is not the cause",
        100 * sum(_without_delay(reply, beats) > LATE for reply in late) / len(refused),
        0,
        "%",
    )
    check("503 without Retry-After", sum("retry-after" not in r.headers for r in replies if r.status == 503), 0)
    growth = 100 * (np.median(memory[-5:]) / np.median(memory[5:10]) - 1)
    check("growth of memory", growth, 5, "%")
    check("difference from single calls", max(differences), 1e-5)


def loop_times(pid: int) -> tuple[float, float, float]:
    """Seconds that a process' first thread has run, and has waited for a CPU, and how often it was given one."""
    ran, waited, slices = map(int, Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split())
    return ran / 1e9, waited / 1e9, slices


def _without_delay(reply: Reply, beats: list[tuple[float, float]]) -> float:
    """Seconds of an answer less the longest pause that this process made meanwhile."""
    end = reply.began + reply.seconds
    pauses = [delay for before, delay in beats if before < end and before + BEAT + delay > reply.began]
    return reply.seconds - max(pauses, default=0.0)


async def _capacity(server: Running, bodies: list[bytes], seconds: float = 6.0) -> float:
    """Requests a second by 32 clients that wait for each other's answers."""
    done = 0
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal done
        client = Client(server)
        while time.perf_counter() < end:
            reply = await client.post(EMBEDDINGS, bodies[(number + done) % PICTURES])
            done += reply.status == 200
        client.close()

    start = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(32)))
    return done / (time.perf_counter() - start)


def uploads() -> None:
    """Hostile files, one after the other, as data: URLs and as uploads."""
    files = hostile.files()
    with midsight_server() as server:
        asyncio.run(_uploads(server, files))


async def _uploads(server: Running, files: dict[str, bytes]) -> None:
    client = Client(server)
    await client.post(EMBEDDINGS, embedding_request(data_url(media.jpeg(320, 240, 0))))
    before = server.memory
    replies: dict[str, Reply] = {}
    for name, data in files.items():
        replies[name] = await client.post(EMBEDDINGS, *hostile.form(data))
    counts = Counter(reply.status for reply in replies.values())
    slow = sorted(replies, key=lambda name: -replies[name].seconds)[:3]
    print(
        f"  {len(files)} files; by status: {dict(counts)}; slowest: "
        + ", ".join(f"{name} {replies[name].seconds:.2f} s ({replies[name].status})" for name in slow)
    )
    taken = [name for name, reply in replies.items() if reply.status == 200]
    print(f"  taken, as they are whole pictures or videos: {', '.join(taken)}")
    check("5xx", sum(reply.status >= 500 for reply in replies.values()), 0)
    check("refusable files that were taken", sum(not name.startswith(("whole", "maybe")) for name in taken), 0)
    check("seconds of the slowest", max(reply.seconds for reply in replies.values()), 2, "s")
    print(f"  memory: {before / 1000:.0f} MB before, {server.peak_memory / 1000:.0f} MB at its highest")
    last = await client.post(EMBEDDINGS, embedding_request("still there"))
    check("not answering afterwards", last.status != 200, 0)


def addresses() -> None:
    """Forbidden addresses: refused, and no connection made."""
    with hostile.sink() as sink:
        forms = hostile.addresses(sink.port)
        hosts = [option for host in hostile.ALLOWED for option in ("--allow-host", host)]
        for options in (
            [],
            hosts + ["--allow-host", f"127.0.0.1:{sink.port}", "--allow-host", f"localhost:{sink.port}"],
        ):
            with midsight_server(*options) as server:
                asyncio.run(_addresses(server, forms))
            check(f"connections made, with {len(options) // 2} hosts allowed", len(sink.heard), 0)


async def _addresses(server: Running, forms: list[str]) -> None:
    client = Client(server)
    slowest, statuses = 0.0, Counter[int]()
    for url in forms:
        part = {"type": "image_url", "image_url": {"url": url}}
        reply = await client.post(EMBEDDINGS, json.dumps({"model": "embedded", "input": [part]}).encode())
        statuses[reply.status] += 1
        slowest = max(slowest, reply.seconds)
    print(f"  {len(forms)} addresses; by status: {dict(statuses)}")
    check("addresses not refused with 400", len(forms) - statuses[400], 0)
    check("seconds of the slowest", slowest, 2, "s")


def memory() -> None:
    """Many requests, and what of them stays in memory."""
    with midsight_server() as server:
        asyncio.run(_memory(server))


async def _alone(server: Running, body: bytes) -> None:
    """A request by a client of its own."""
    client = Client(server)
    await client.post(EMBEDDINGS, body)
    client.close()


async def _memory(server: Running) -> None:
    pictures = [data_url(media.jpeg(160, 120, seed)) for seed in range(64)]
    points: list[tuple[int, float]] = []
    asked = 0

    async def one() -> None:
        nonlocal asked
        client = Client(server)
        while asked < REQUESTS:
            number = asked
            asked += 1
            # texts never come twice: what is remembered of them must be bounded
            entry = pictures[number % 64] if number % 4 == 0 else f"a photo of thing {number} called {number * 7919:x}"
            reply = await client.post(EMBEDDINGS, embedding_request(entry))
            assert reply.status == 200, reply.body
            if number >= WARM_UP and number % 250 == 0:
                points.append((number, server.memory))
        client.close()

    # the largest batches come first: later, their memory would be one step somewhere in the line
    for _ in range(3):
        for entries in (pictures[:AT_ONCE], [f"a burst of text {number}" for number in range(AT_ONCE)]):
            await asyncio.gather(*(_alone(server, embedding_request(entry)) for entry in entries))
    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(8)))
    numbers, kilobytes = np.array(points).T
    slope = 1000 * np.polyfit(numbers, kilobytes, 1)[0]
    print(
        f"  {REQUESTS} requests in {time.perf_counter() - start:.0f} s; resident {kilobytes[0] / 1000:.0f} MB after "
        f"{WARM_UP}, {kilobytes[-1] / 1000:.0f} MB at the end"
    )
    check("slope of the memory", slope, 1000, "bytes a request")


def decoders() -> None:
    """Decoders that are killed, or stopped for good, while they work: each costs one request at most."""
    with midsight_server("--timeout", "60") as server:
        asyncio.run(_decoders(server))


async def _decoders(server: Running) -> None:
    bodies = [embedding_request(data_url(media.jpeg(1600, 1200, seed))) for seed in range(PICTURES)]
    statuses, other = Counter[int](), Counter[str]()
    deaths = 0

    async def one(number: int) -> None:
        client = Client(server)
        while deaths < DEATHS:
            reply = await client.post(EMBEDDINGS, bodies[number])
            statuses[reply.status] += 1
            if reply.status != 200:
                other[reply.json["error"]["message"].rpartition(": ")[2]] += 1
        client.close()

    async def kill() -> None:
        nonlocal deaths
        while deaths < DEATHS:
            await asyncio.sleep(float(np.random.uniform(0.05, 0.3)))
            copies = [pid for template in children(server.pid) for pid in children(template)]
            if copies:
                stopped = deaths % 20 == 10
                os.kill(int(np.random.choice(copies)), signal.SIGSTOP if stopped else signal.SIGKILL)
                deaths += 1

    await asyncio.gather(kill(), *(one(number) for number in range(4)))
    last = [await Client(server).post(EMBEDDINGS, body) for body in bodies]
    print(f"  {deaths} decoders killed or stopped; answers by status: {dict(statuses)}; what was said: {dict(other)}")
    check("5xx", sum(count for status, count in statuses.items() if status >= 500), 0)
    check("requests that failed for each decoder", (sum(statuses.values()) - statuses[200]) / deaths, 1)
    check("not answered afterwards", sum(reply.status != 200 for reply in last), 0)


def children(pid: int) -> list[int]:
    """Processes that a process has started; none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def contract() -> None:
    """What the API says of itself, against made requests (schemathesis), with search, moderation and review."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        options = ("--demo", "--policy", str(policy), "--decisions", f"{folder}/decisions.jsonl")
        with midsight_server(*options) as server:
            done = serve_contract.run(f"http://{server.host}:{server.port}", CASES)
    print("  " + "\n  ".join(done.summary))
    check("failures", done.failures, 0)
    check("cases that are missing", max(0, CASES - done.cases), 0)


FAULTS: dict[str, Callable[[], None]] = {
    "overload": overload, "uploads": uploads, "addresses": addresses, "memory": memory,
    "contract": contract, "decoders": decoders,
}  # fmt: skip


def main(names: list[str]) -> int:
    """Exit code: 0, 1 where a figure is not what it had to be, 2 for an unknown name."""
    if unknown := [name for name in names if name not in FAULTS]:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    for name in names or FAULTS:
        print(f"{name}: {FAULTS[name].__doc__}", flush=True)
        FAULTS[name]()
    if failed:
        print(f"not met: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
