"""Files of requests to pixels, by processes beside the server: one that hangs or dies costs one request.

Limits are looked at before anything is decoded. A thread waits for each process; what is in a file never runs here.
"""

import atexit
import math
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache

import torch
from torch import Tensor

from midsight import child as processes
from midsight.child import Children
from midsight.configs import PreprocessConfig
from midsight.forked import Template
from midsight.images import Limits, Pixels
from midsight.serve.batching import stopping
from midsight.serve.child import Reader, Reading, Shown, Unreadable, Wanted
from midsight.serve.errors import ApiError
from midsight.serve.inputs import File
from midsight.serve.limits import EncoderLimits
from midsight.serve.log import LOGGER
from midsight.serve.places import RETRY_SECONDS

# None where the system cannot hand a connection to a new process: files are then read here, without a time limit.
COMMAND = (sys.executable, "-P", "-m", "midsight.serve.child") if processes.SUPPORTED else None
GRACE = 5.0  # seconds beyond its own limit before a process is given up


def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for decoders."""
    return ThreadPoolExecutor(threads, "midsight-decode", initializer=torch.set_num_threads, initargs=(1,))


@cache
def template(command: tuple[str, ...]) -> Template:
    """One for the whole server: what decodes needs some memory, and its copies share it."""
    made = Template(command)
    atexit.register(made.close)
    return made


class Ended(Unreadable):
    """A file that was the end of its decoder: it killed it, or where it is `late`, kept it busy for too long."""

    def __init__(self, words: str, late: bool) -> None:
        super().__init__(words)
        self.late = late


class Decoders:
    """A process for each thread that reads, started on first use.

    Args:
        preprocess: how pixels become what the encoder takes; None where pictures are wanted as they are.
        images: what a picture may cost.
        seconds: for one file.
        command: what to start; None reads in this process.
    """

    def __init__(
        self,
        preprocess: PreprocessConfig | None,
        images: Limits,
        seconds: float,
        command: Sequence[str] | None = COMMAND,
    ) -> None:
        reading = Reading(preprocess, images, seconds)
        self._seconds = seconds
        self._here = None if command is not None else _Readers(reading)
        self._children = Children(lambda: template(tuple(command or ())).child(asdict(reading)))

    def read(self, data: bytes, wanted: Wanted) -> Tensor | float:
        """As `child.Reader.read`.

        Raises:
            Unreadable: what is in the file; Ended: what it did to its decoder.
            ApiError: 503, the server is being stopped.
        """
        if self._here is not None:
            return self._here.mine().read(data, wanted)
        try:
            child = self._children.mine()
        except (EOFError, OSError) as error:
            LOGGER.error("there is no decoder: %r", error)
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise ApiError(503, "there is no decoder now. Try again later", "no_decoder", headers=headers) from None
        if child is None:
            raise stopping()
        try:
            child.send(asdict(wanted), data)
            answer, pixels = child.receive(self._seconds + GRACE)
        except (EOFError, OSError) as error:
            death = child.death(error, self._seconds)
            LOGGER.error("a decoder has gone: %s", death.words)
            raise Ended(death.words.removesuffix("."), death.late) from None
        if "error" in answer:
            if "fault" in answer:
                LOGGER.error("a file could not be decoded:\n%s", answer["fault"])
            raise Unreadable(answer["error"])
        if "seconds" in answer:
            return float(answer["seconds"])
        return torch.frombuffer(pixels, dtype=torch.uint8).reshape(answer["shape"])

    def close(self) -> None:
        """Ends all processes, at once."""
        self._children.close()


class _Readers(threading.local):
    """In this process: one for each thread, for a reader's memory is used again by its next file."""

    def __init__(self, reading: Reading) -> None:
        self._reader = Reader(reading)

    def mine(self) -> Reader:
        """That of the thread that asks."""
        return self._reader


class Decoder:
    """Files to pixels for one encoder. Safe to use from several threads, each of which has a process.

    Args:
        preprocess: the model's.
        limits: what a file may cost.
        command: as `Decoders`.
    """

    def __init__(
        self, preprocess: PreprocessConfig, limits: EncoderLimits, command: Sequence[str] | None = COMMAND
    ) -> None:
        self._limits = limits
        self._decoders = Decoders(preprocess, limits.images, limits.decode_seconds, command)

    def pixels(self, file: File, num_frames: int) -> Tensor:
        """uint8 (T, 3, S, S); a picture is one frame.

        Raises:
            ApiError: 400, cut, broken, beyond a limit, or the end of its decoder.
        """
        if not file.is_video:
            found = self._read(file, Wanted("picture"))
        else:
            found = self._read(file, Wanted("video", num_frames, file.stretch, self._limits.videos(num_frames)))
        assert isinstance(found, Tensor)
        return found

    def stretches(self, file: File, seconds: float) -> list[tuple[float, float]]:
        """A video's parts of so many seconds, the last one shorter.

        Raises:
            ApiError: as `pixels`.
        """
        end = self._read(file, Wanted("seconds", videos=self._limits.videos(1)))
        assert isinstance(end, float)
        count = max(1, math.ceil(end / seconds - 1e-6))
        return [(number * seconds, min((number + 1) * seconds, end)) for number in range(count)]

    def prepare(self) -> None:
        """Returns when this thread's process is there."""
        self._decoders.read(b"", Wanted("ready"))

    def close(self) -> None:
        """No more files."""
        self._decoders.close()

    def _read(self, file: File, wanted: Wanted) -> Tensor | float:
        try:
            return self._decoders.read(file.data, wanted)
        except Unreadable as error:
            what = "video" if file.is_video else "picture"
            raise unreadable(f"{file.place}: the {what}", file.place, str(error)) from None


def small_picture(decoders: Decoders, shown: Shown) -> bytes:
    """A WebP file.

    Raises:
        Unreadable: the file is gone or cannot be read; Ended: it was the end of its decoder.
        ApiError: 503, as `Decoders.read`.
    """
    found = decoders.read(b"", Wanted("small", shown=shown))
    assert isinstance(found, Tensor)
    return found.numpy().tobytes()


def raw_pixels(decoders: Decoders, data: bytes, told: str, place: str) -> Pixels:
    """A picture as it is, uint8 (H, W, 3).

    Args:
        told: what a message calls it.
        place: in the request.

    Raises:
        ApiError: as `Decoder.pixels`.
    """
    try:
        found = decoders.read(data, Wanted("raw"))
    except Unreadable as error:
        raise unreadable(told, place, str(error)) from None
    assert isinstance(found, Tensor)
    pixels: Pixels = found.numpy()
    return pixels


def unreadable(told: str, place: str, reason: str) -> ApiError:
    """The answer to a file that cannot be read."""
    reason = reason.partition(" Raise ")[0]  # what a programmer could do; a client cannot
    code = "image_too_large" if "limit" in reason else "invalid_image"
    return ApiError(400, f"{told} cannot be read: {reason}", code, place)
