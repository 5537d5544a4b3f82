"""Files to pixels by a child process: one that hangs or dies costs its file, and the next file gets a new child."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from midsight.configs import PreprocessConfig
from midsight.library.jobs import child

COMMAND = (sys.executable, "-m", "midsight.library.jobs.child")
TRIES = 3  # of a file whose child dies
_START = 180.0  # seconds in which a new child has to be there, on a busy machine
_BUFFER = 4 << 20  # bytes that may lie in the socket


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        preprocess: how pixels become what the encoder takes.
        num_frames: of a video or segment.
        segment_seconds: length of the segments of a video; None takes it whole.
        file_seconds: time for a picture, a clip or a segment, after which its file is given up.
    """

    preprocess: PreprocessConfig
    num_frames: int = 8
    segment_seconds: float | None = None
    file_seconds: float = 120.0


@dataclass(frozen=True)
class Decoded:
    """A picture, clip or segment, or why there is none."""

    pixels: bytearray | None = None  # uint8, frames x 3 x S x S
    frames: int = 0
    start: float | None = None  # seconds
    end: float | None = None
    error: str | None = None


class Decoder:
    """A child process, started on first use and anew after each death."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def read(self, name: str, source: str | bytes, *, video: bool) -> Iterator[Decoded]:
        """What a file holds; never raises for what is in it.

        A child that dies before it has said anything about the file is not yet the file's fault (a machine short of
        memory ends processes): another one is asked.

        Args:
            name: what messages call it.
            source: a path, or the bytes.
        """
        for attempt in range(TRIES):
            said = False
            try:
                for found in self._ask(name, source, video):
                    said = True
                    yield found
                return
            except GeneratorExit:  # what is still to come must not be taken for another file's
                self.close()
                raise
            except TimeoutError:
                self.close()
                yield Decoded(error=f"{name}: took longer than {self.reading.file_seconds:g} s to decode; given up.")
                return
            except (EOFError, OSError):
                reason = self._last_words()
                if said or attempt == TRIES - 1:
                    yield Decoded(error=f"{name}: {reason}")
                    return

    def close(self) -> None:
        """Ends the child."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._connection = self._child = None

    def _ask(self, name: str, source: str | bytes, video: bool) -> Iterator[Decoded]:
        connection = self._connection or self._start()
        connection.settimeout(self.reading.file_seconds)
        path = os.fsencode(source).hex() if isinstance(source, str) else ""
        request = {"name": name, "path": path, "kind": "video" if video else "image"}
        child.send(connection, request, b"" if isinstance(source, str) else source)
        while "done" not in (message := child.receive(connection))[0]:
            header, pixels = message
            if "error" in header:
                yield Decoded(error=header["error"])
            else:
                yield Decoded(pixels, header["shape"][0], header["start"], header["end"])

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        # -m puts the current folder first on the path; the package must be the one that runs here
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._connection = ours
        with theirs:
            self._child = subprocess.Popen(
                [*COMMAND, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        ours.settimeout(_START)
        settings: dict[str, Any] = asdict(self.reading)
        child.send(ours, settings)
        child.receive(ours)
        return ours

    def _last_words(self) -> str:
        code = None
        if self._child is not None:
            try:
                code = self._child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                code = None
        self.close()
        if code is not None and code < 0:
            return f"its decoder was killed by {signal.Signals(-code).name}."
        return f"its decoder ended (code {code})."
