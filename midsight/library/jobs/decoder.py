"""Files to pixels by a child process: one that hangs or dies costs its file, and the next file gets a new child."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from midsight.child import Child, Death, started
from midsight.configs import PreprocessConfig

COMMAND = (sys.executable, "-P", "-m", "midsight.library.jobs.child")
TRIES = 3  # of a file whose child dies


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
        self._child: Child | None = None

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
            except (EOFError, OSError) as error:
                death = self._death(error)
                if said or attempt == TRIES - 1 or death.late:
                    yield Decoded(error=f"{name}: {death.words}")
                    return

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.close()
        self._child = None

    def _ask(self, name: str, source: str | bytes, video: bool) -> Iterator[Decoded]:
        if self._child is None:
            self._child = started(COMMAND, asdict(self.reading))
        path = os.fsencode(source).hex() if isinstance(source, str) else ""
        request = {"name": name, "path": path, "kind": "video" if video else "image"}
        self._child.send(request, b"" if isinstance(source, str) else source)
        done = False
        while not done:
            header, pixels = self._child.receive(self.reading.file_seconds)
            done = header["done"]
            if "error" in header:
                yield Decoded(error=header["error"])
            elif "shape" in header:
                yield Decoded(pixels, header["shape"][0], header["start"], header["end"])

    def _death(self, error: Exception) -> Death:
        child, self._child = self._child, None
        assert child is not None  # somebody raised the error
        return child.death(error, self.reading.file_seconds)
