"""Files read by processes of their own: one that hangs or dies costs its file, and the next gets a new process.

Small pictures are asked for some at a time: a question and an answer for each would cost as much as decoding them.
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import child as processes
from midsight.child import Child, Children
from midsight.errors import MidsightError
from midsight.forked import Template
from midsight.library.index.scan import Found
from midsight.library.index.worker import HASH_RATE, Answer, Job, Place, read_all

# None where the system cannot hand a connection to a new process: files are then read here, without a time limit.
COMMAND = (sys.executable, "-P", "-m", "midsight.library.index.worker") if processes.SUPPORTED else None
MOST_FILES, MOST_BYTES = 8, 1 << 20  # of small pictures that are asked for together
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
Parts = list[tuple[Found, Part]]


def together(files: Iterable[Found]) -> Iterator[list[Found]]:
    """All files in order, neighbours that are small pictures in groups."""
    group: list[Found] = []
    size = 0  # bytes
    for file in files:
        size += file.size
        fits = len(group) < MOST_FILES and size <= MOST_BYTES
        if group and not (fits and file.kind == group[-1].kind == "image"):
            yield group
            group, size = [], file.size
        group.append(file)
    if group:
        yield group


class Decoders:
    """One process for each thread that reads; started on first use, started anew after a death.

    Args:
        root: the folder of the files.
        command: what to start, the template of the processes. None reads in this process: a file that hangs or kills
            its decoder then does so to all of the work.
    """

    def __init__(self, job: Job, root: Path, command: Sequence[str] | None = COMMAND) -> None:
        self.job, self._root, self._here = job, root, command is None
        self._template = Template(command or ())
        self._children = Children(lambda: self._template.child(asdict(job)))

    def read(self, files: Sequence[Found]) -> Iterator[Parts]:
        """Their pieces, some at a time, and behind those of each file its `End`; never raises for what is in a file.

        Args:
            files: several pictures, or one of anything, as `together` gives them.

        Raises:
            MidsightError: there is no process that could read them.
        """
        if self._here:
            asked = [(self._root / file.name, file.kind) for file in files]
            yield from _parts(files, read_all(asked, self.job, lambda _: None, lambda _: None))
            return
        try:
            child = self._children.mine()
        except (EOFError, OSError) as error:
            why = f"not read, for the process that reads does not start ({error!r})."
            raise MidsightError(f"{self._root / files[0].name}: {why}") from error
        if child is None:
            yield [(file, End(f"{self._root / file.name}: not read, for the work was stopped.")) for file in files]
            return
        try:
            yield from _parts(files, self._answers(child, files))
        except (EOFError, OSError) as error:
            words = child.death(error, self.job.seconds).words
            yield from self._around(files, words, child.noted())
        except GeneratorExit:  # in the middle of a file: what is still to come must not be taken for another's
            child.end()
            raise

    def close(self) -> None:
        """Ends all processes, at once; threads that wait for one get an `End`."""
        self._children.close()
        self._template.close()

    def _answers(self, child: Child, files: Sequence[Found]) -> Iterator[Answer]:
        """Those of `worker.read_all`."""
        child.send({"files": [(os.fsencode(self._root / file.name).hex(), file.kind) for file in files]})
        seconds = sum(self.job.seconds + file.size / HASH_RATE for file in files) + _GRACE
        ended = 0
        while ended < len(files):
            header, data = child.receive(seconds)
            answer: Answer = []
            offset = 0
            for number, message in header["messages"]:
                pixels = None
                if "piece" in message:
                    count = math.prod(message["shape"])
                    pixels = torch.frombuffer(data, dtype=torch.uint8, count=count, offset=offset)
                    pixels = pixels.view(message["shape"])
                    offset += count
                ended += "failed" in message or "done" in message
                answer.append((number, (message, pixels)))
            yield answer

    def _around(self, files: Sequence[Found], words: str, noted: dict[str, Any]) -> Iterator[Parts]:
        """The file at which a process died has its end; the others of its group are read by another process.

        Args:
            words: how it died.
            noted: which file it was at, and what it knew of that; of pictures, nothing has come yet.
        """
        at = noted.pop("at", 0 if len(files) == 1 else None)
        if at is None:  # it died between two of them
            for file in files:
                yield from self.read([file])
            return
        if files[:at]:
            yield from self.read(files[:at])
        end = End(f"{self._root / files[at].name}: {words}", start=Start(**noted) if noted else None)
        yield [(files[at], end)]
        if files[at + 1 :]:
            yield from self.read(files[at + 1 :])


def _parts(files: Sequence[Found], answers: Iterable[Answer]) -> Iterator[Parts]:
    starts: dict[int, Start] = {}
    for answer in answers:
        parts: Parts = []
        for number, (message, pixels) in answer:
            if "hash" in message:
                starts[number] = Start(**message)
            elif pixels is not None:
                parts.append((files[number], Piece(Place(**message["piece"]), pixels)))
            else:
                notes, start = tuple(message.get("done", ())), starts.get(number)
                parts.append((files[number], End(message.get("failed"), notes, "drop" in message, start)))
        yield parts
