"""Files read by processes of their own: one that hangs or dies costs its file, and the next gets a new process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midsight.library.index.worker import HASH_RATE, Job, Kind, Place, read

# None where the system cannot hand a connection to a new process: files are then read here, without a time limit.
COMMAND = (sys.executable, "-P", "-m", "midsight.library.index.worker") if os.name == "posix" else None
_START = 120.0  # seconds in which a new process has to be there, on a busy machine
_GRACE = 5.0  # seconds beyond its own limit before a process is given up


@dataclass(frozen=True)
class Piece:
    """One piece of a file: where it is, and its pixels uint8 (T, 3, S, S)."""

    place: Place
    frames: Tensor


@dataclass(frozen=True)
class Start:
    """Which state of a file is read: its size, time of change and SHA-256."""

    size: int
    mtime_ns: int
    hash: str


@dataclass(frozen=True)
class End:
    """The last word on a file.

    Attributes:
        failed: why it could not be read to its end; None where it was.
        notes: parts that could not be read.
        drop: whether the pieces are of no use.
    """

    failed: str | None = None
    notes: tuple[str, ...] = ()
    drop: bool = False


Part = Start | Piece | End


class Decoders:
    """One process for each thread that reads; started on first use, started anew after a death.

    Args:
        command: what to start; the number of a connection is added to it. None reads in this process: a file that
            hangs or kills its decoder then does so to all of the work.
    """

    def __init__(self, job: Job, command: Sequence[str] | None = COMMAND) -> None:
        self.job, self._command = job, command
        self._of_thread = threading.local()
        self._all: list[_Process] = []
        self._lock = threading.Lock()
        self._closed = False

    def read(self, path: Path, kind: Kind, size: int) -> Iterator[Part]:
        """Its `Start` where it can be opened, its pieces, then its `End`; never raises for what is in the file.

        Args:
            size: bytes, as far as known; large files get more time to be read.
        """
        if self._command is None:
            for message, pixels in read(path, kind, self.job, lambda _: None):
                yield _part(message, pixels)
            return
        process = self._process(self._command)
        if process is None:
            yield End(failed=f"{path}: not read, for the work was stopped.")
            return
        try:
            yield from process.read(path, kind, self.job.seconds + size / HASH_RATE)
        except (EOFError, OSError) as error:
            yield End(failed=f"{path}: {self._last_words(process, error)}")
        except GeneratorExit:  # in the middle of a file: what is still to come must not be taken for another's
            process.end()
            raise

    def close(self) -> None:
        """Ends all processes, at once; threads that wait for one get an `End`."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()

    def _process(self, command: Sequence[str]) -> "_Process | None":
        process: _Process | None = getattr(self._of_thread, "process", None)
        if process is not None and process.alive:
            return process
        with self._lock:  # what is started here is seen by `close`
            if self._closed:
                return None
            process = self._of_thread.process = _Process(command, self.job)
            self._all = [other for other in self._all if other.alive] + [process]
            return process

    def _last_words(self, process: "_Process", error: Exception) -> str:
        code = process.end()
        if isinstance(error, TimeoutError) or code == -signal.SIGALRM:
            return f"took longer than {self.job.seconds:g} s to decode."
        if code is not None and code < 0:
            return f"its decoder was killed by {signal.Signals(-code).name}."
        return f"its decoder ended with code {code}."


class _Process:
    """A running `worker`."""

    def __init__(self, command: Sequence[str], job: Job) -> None:
        ours, theirs = Pipe()
        try:
            # the package must be the one that runs here; -P: nothing is imported from the current folder, which may
            # be one of pictures from anywhere
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._child = subprocess.Popen(
                [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        finally:
            theirs.close()
        self._connection: Connection[Any, Any] = ours
        self._fresh = True
        self._connection.send_bytes(json.dumps(asdict(job)).encode())

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def read(self, path: Path, kind: Kind, seconds: float) -> Iterator[Part]:
        """As `Decoders.read`; EOFError where the process died, TimeoutError where it says nothing any more."""
        self._connection.send_bytes(json.dumps({"path": os.fsencode(path).hex(), "kind": kind}).encode())
        while True:
            message = json.loads(self._receive(seconds))
            pixels = None
            if "piece" in message:
                values = np.frombuffer(self._receive(seconds), np.uint8).reshape(message["shape"])
                pixels = torch.from_numpy(values.copy())
            part = _part(message, pixels)
            yield part
            if isinstance(part, End):
                return

    def _receive(self, seconds: float) -> bytes:
        if not self._connection.poll(seconds + _GRACE + (_START if self._fresh else 0)):
            raise TimeoutError
        self._fresh = False
        return self._connection.recv_bytes()

    def kill(self) -> None:
        """Ends it; whoever waits for an answer hears of the end."""
        self._child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=_GRACE)

    def end(self) -> int | None:
        """Ends it, closes the connection, and gives its exit code; None where the system cannot end it now."""
        try:
            self._child.wait(timeout=0.2)  # dying by itself: its own code tells why
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._connection.close()
        try:
            return self._child.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            return None


def _part(message: dict[str, Any], pixels: Tensor | None) -> Part:
    """What a message of `worker.read` says."""
    if "hash" in message:
        return Start(**message)
    if pixels is not None:
        return Piece(Place(**message["piece"]), pixels)
    return End(message.get("failed"), tuple(message.get("done", ())), bool(message.get("drop")))
