"""Files read by processes of their own: one that hangs or dies costs its file, and the next gets a new process."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import child as processes
from midsight.child import Child, Children, started
from midsight.library.index.worker import HASH_RATE, Job, Kind, Place, read

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
        self.job, self._here = job, command is None
        self._children = Children(lambda: started(command or (), asdict(job)))

    def read(self, path: Path, kind: Kind, size: int) -> Iterator[Part]:
        """Its `Start` where it can be opened, its pieces, then its `End`; never raises for what is in the file.

        Args:
            size: bytes, as far as known; large files get more time to be read.
        """
        if self._here:
            for message, pixels in read(path, kind, self.job, lambda _: None):
                yield _part(message, pixels)
            return
        child = self._children.mine()
        if child is None:
            yield End(failed=f"{path}: not read, for the work was stopped.")
            return
        try:
            yield from _read(child, path, kind, self.job.seconds + size / HASH_RATE + _GRACE)
        except (EOFError, OSError) as error:
            yield End(failed=f"{path}: {child.death(error, self.job.seconds).words}")
        except GeneratorExit:  # in the middle of a file: what is still to come must not be taken for another's
            child.end()
            raise

    def close(self) -> None:
        """Ends all processes, at once; threads that wait for one get an `End`."""
        self._children.close()


def _read(child: Child, path: Path, kind: Kind, seconds: float) -> Iterator[Part]:
    child.send({"path": os.fsencode(path).hex(), "kind": kind})
    while True:
        message, data = child.receive(seconds)
        pixels = None
        if "piece" in message:
            pixels = torch.frombuffer(data, dtype=torch.uint8).reshape(message["shape"])
        part = _part(message, pixels)
        yield part
        if isinstance(part, End):
            return


def _part(message: dict[str, Any], pixels: Tensor | None) -> Part:
    """What a message of `worker.read` says."""
    if "hash" in message:
        return Start(**message)
    if pixels is not None:
        return Piece(Place(**message["piece"]), pixels)
    return End(message.get("failed"), tuple(message.get("done", ())), bool(message.get("drop")))
