"""Files read by processes of their own: one that hangs or dies costs its file, and the next gets a new process."""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import child as processes
from midsight.child import Child, Children, Template
from midsight.errors import MidsightError
from midsight.library.index.worker import HASH_RATE, Job, Kind, Message, Place, read

# None where the system cannot hand a connection to a new process: files are then read here, without a time limit.
COMMAND = (sys.executable, "-P", "-m", "midsight.library.index.worker") if processes.SUPPORTED else None
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
        start: what was read; None where it could not even be opened.
    """

    failed: str | None = None
    notes: tuple[str, ...] = ()
    drop: bool = False
    start: Start | None = None


Part = Piece | End


class Decoders:
    """One process for each thread that reads; started on first use, started anew after a death.

    Args:
        command: what to start, the template of the processes. None reads in this process: a file that hangs or kills
            its decoder then does so to all of the work.
    """

    def __init__(self, job: Job, command: Sequence[str] | None = COMMAND) -> None:
        self.job, self._here = job, command is None
        self._template = Template(command or ())
        self._children = Children(lambda: self._template.child(asdict(job)))

    def read(self, path: Path, kind: Kind, size: int) -> Iterator[Part]:
        """Its pieces, then its `End`; never raises for what is in the file.

        Args:
            size: bytes, as far as known; large files get more time to be read.

        Raises:
            MidsightError: there is no process that could read it.
        """
        start: Start | None = None
        with closing(self._messages(path, kind, size)) as messages:
            for message, pixels in messages:
                if "hash" in message:
                    start = Start(**message)
                elif pixels is not None:
                    yield Piece(Place(**message["piece"]), pixels)
                else:
                    yield End(message.get("failed"), tuple(message.get("done", ())), "drop" in message, start)

    def close(self) -> None:
        """Ends all processes, at once; threads that wait for one get an `End`."""
        self._children.close()
        self._template.close()

    def _messages(self, path: Path, kind: Kind, size: int) -> Generator[Message, None, None]:
        """Those of `worker.read`, and "failed" where the process died."""
        if self._here:
            yield from read(path, kind, self.job, lambda _: None)
            return
        try:
            child = self._children.mine()
        except (EOFError, OSError) as error:
            raise MidsightError(f"{path}: not read, for the process that reads does not start ({error!r}).") from error
        if child is None:
            yield {"failed": f"{path}: not read, for the work was stopped."}, None
            return
        try:
            yield from _asked(child, path, kind, self.job.seconds + size / HASH_RATE + _GRACE)
        except (EOFError, OSError) as error:
            yield {"failed": f"{path}: {child.death(error, self.job.seconds).words}"}, None
        except GeneratorExit:  # in the middle of a file: what is still to come must not be taken for another's
            child.end()
            raise


def _asked(child: Child, path: Path, kind: Kind, seconds: float) -> Iterator[Message]:
    child.send({"path": os.fsencode(path).hex(), "kind": kind})
    message: dict[str, Any] = {}
    while message.keys().isdisjoint(("failed", "done")):
        message, data = child.receive(seconds)
        pixels = torch.frombuffer(data, dtype=torch.uint8).reshape(message["shape"]) if "piece" in message else None
        yield message, pixels
