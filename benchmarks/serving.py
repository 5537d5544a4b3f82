"""A server in a process of its own, and clients that cost it little: plain HTTP/1.1 over asyncio streams."""

import asyncio
import base64
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import ROOT

MODEL = "embedded"
POLICY = """version: 1
categories:
  animals: {prompts: [a cat, a dog], negatives: [a statue], threshold: 0.5}
  vehicles: {prompts: [a motorcycle, a rocket], negatives: [a house], threshold: 0.9, review: 0.3}
"""


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    host: str
    port: int
    pid: int

    @property
    def memory(self) -> float:
        """Resident memory, kB."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> float:
        """Resident memory at its highest so far, kB."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(name)))


@contextlib.contextmanager
def running(command: Sequence[str], cpus: set[int] | None = None) -> Iterator[Running]:
    """A server, from the line on stderr that names its address to the end of the block; it must end by SIGTERM."""
    pinned = [] if cpus is None else ["taskset", "-c", ",".join(map(str, sorted(cpus)))]
    process = subprocess.Popen([*pinned, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert process.stderr is not None
    try:
        line = ""
        while "http://" not in line:
            line = process.stderr.readline()
            if not line:
                raise RuntimeError(f"{command} did not start")
        address = line.split("http://")[1].split("/")[0].strip()
        drain = subprocess.Popen(["tail", "-c", "2000"], stdin=process.stderr, stdout=subprocess.PIPE)
        host, _, port = address.rpartition(":")
        yield Running(host, int(port), process.pid)
        process.send_signal(signal.SIGTERM)
        if process.wait(60) not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise RuntimeError(f"the server ended with {process.returncode}: {drain.communicate()[0].decode()}")
    finally:
        process.kill()
        process.wait()


def midsight_server(
    *options: str, threads: int = 1, cpus: set[int] | None = None
) -> contextlib.AbstractContextManager[Running]:
    """`midsight serve` on a free port."""
    command = [sys.executable, "-m", "midsight.cli.main", "serve", "--port", "0", "--threads", str(threads), *options]
    return running(command, cpus)


@dataclass(frozen=True)
class Reply:
    """An answer and when it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    began: float = 0.0  # perf_counter

    @property
    def in_server(self) -> float:
        """Seconds from the server's first look at the request to the beginning of its answer."""
        return float(self.headers["server-timing"].partition("dur=")[2]) / 1000

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Client:
    """One connection, opened again where the server has closed it."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, kind: str = "application/json", seconds: float = 120) -> Reply:
        """Send a request; its time counts from before the connection."""
        start = time.perf_counter()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(seconds):
            try:
                status, headers, data = await self._asked(head.encode() + body)
            except (ConnectionError, asyncio.IncompleteReadError):
                if self._streams is None:
                    raise
                self.close()  # the server had closed it while nothing was asked
                status, headers, data = await self._asked(head.encode() + body)
        if headers.get("connection") == "close":
            self.close()
        return Reply(status, headers, data, time.perf_counter() - start, start)

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _asked(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._server.host, self._server.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, data


def embedding_request(*inputs: str) -> bytes:
    """The body of a request for embeddings in base64."""
    return json.dumps({"model": MODEL, "input": inputs, "encoding_format": "base64"}).encode()


def data_url(data: bytes, kind: str = "image/jpeg") -> str:
    """A file in a text."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def rows(reply: Reply) -> npt.NDArray[np.float32]:
    """The embeddings of an answer, (N, D)."""
    texts = [entry["embedding"] for entry in reply.json["data"]]
    return np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts])
