"""The processes that decode what a server was sent: copies of `python -P -m midsight.serve.child NUMBER`.

One that hangs or dies costs the file that did it; see `midsight.forked`. Each is given a file's bytes, or the path of
one in the index, and what to make of it, and answers with pixels, or with a small picture's file. They know nothing of
HTTP, and load none of what a server needs for that.
"""

import signal
import socket
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import threads, video
from midsight.child import connection, give_time, receive, send
from midsight.configs import PreprocessConfig
from midsight.errors import InputError, MidsightError
from midsight.forked import split
from midsight.images import Limits, Scratch, load_image
from midsight.transforms.image import ImageTransform, from_config
from midsight.video import MediaWarning, VideoLimits

Stretch = tuple[float, float]
CUT = "cut or broken: a part of it is missing"
NO_MEMORY = "there is not enough memory to decode it"


@dataclass(frozen=True)
class Shown:
    """A file of the index and the part of it that a small picture shows; as `library.index.preview.thumbnail`."""

    path: str
    kind: str
    start: float | None
    page: int | None
    side: int


@dataclass(frozen=True)
class Wanted:
    """What is to be made of a file.

    Attributes:
        what: "picture" or "video", for the encoder; "raw" is a picture as it is; "seconds" is how long a video lasts;
            "small" is the small picture of what is `shown`; "ready" is nothing, for those who wait until the process is
            there.
        frames: of a video.
        stretch: seconds of a video that count; all of it by default.
        videos: what a video may cost.
        shown: of the index, instead of a file's bytes.
    """

    what: str
    frames: int = 1
    stretch: Stretch | None = None
    videos: VideoLimits = VideoLimits()
    shown: Shown | None = None

    @classmethod
    def of_message(cls, values: dict[str, Any]) -> "Wanted":
        """What `asdict` has made of one, behind JSON, which has lists for tuples."""
        stretch, shown = values["stretch"], values["shown"]
        return cls(
            values["what"], values["frames"], None if stretch is None else tuple(stretch),
            VideoLimits(**values["videos"]), None if shown is None else Shown(**shown),
        )  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How files are read; sent once.

    Attributes:
        preprocess: how pixels become what the encoder takes; None where only raw pictures are wanted.
        images: what a picture may cost.
        seconds: for one file.
    """

    preprocess: PreprocessConfig | None
    images: Limits
    seconds: float

    @classmethod
    def of_message(cls, values: dict[str, Any]) -> "Reading":
        """What `asdict` has made of one, behind JSON, which has lists for tuples."""
        preprocess = values.pop("preprocess")
        if preprocess is not None:
            tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in preprocess.items()}
            preprocess = PreprocessConfig(**tuples)
        return cls(preprocess, Limits(**values["images"]), values["seconds"])


class Unreadable(Exception):
    """A file that cannot be read; its text says why, without the file's name."""


class Reader:
    """Files to pixels, one after the other: not for several threads at once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._scratch = Scratch()
        self._transform: ImageTransform | None = None
        if reading.preprocess is not None:
            self._transform = from_config(reading.preprocess, limits=reading.images)

    def read(self, data: bytes, wanted: Wanted) -> Tensor | float:
        """Pixels uint8 (T, 3, S, S), of a raw picture (H, W, 3); a small picture's file as uint8 (n,); or seconds.

        Raises:
            Unreadable: cut, broken, or beyond a limit.
        """
        try:
            return self._read(data, wanted)
        except (MidsightError, MediaWarning) as error:
            raise Unreadable(str(error).removeprefix(f"<{len(data)} bytes>: ")) from None
        except MemoryError:
            raise Unreadable(NO_MEMORY) from None

    def _read(self, data: bytes, wanted: Wanted) -> Tensor | float:
        if wanted.what == "ready":
            return 0.0
        if wanted.what == "raw":
            return torch.from_numpy(load_image(data, limits=self._reading.images))
        if wanted.shown is not None:
            return _small(wanted.shown)
        if wanted.what == "seconds":
            return float(video.probe(data, limits=wanted.videos).duration)
        assert self._transform is not None
        if wanted.what == "picture":
            return self._transform.pixels(data, self._scratch)[None]
        frames = self._frames(data, wanted)
        return torch.stack([self._transform.pixels(frame) for frame in frames])

    def _frames(self, data: bytes, wanted: Wanted) -> Any:
        limits = wanted.videos
        if video.probe(data, limits=limits).short_read:
            raise Unreadable(CUT)
        start, end = wanted.stretch or (None, None)
        try:
            return video.sample_frames(data, wanted.frames, start=start, end=end, limits=limits).frames
        except InputError:  # nothing new is shown in the stretch: the frame before still stands
            last = video.sample_frames(data, 2, end=end, limits=limits).frames[-1:]
            return last.repeat(wanted.frames, axis=0)


def _small(shown: Shown) -> Tensor:
    """A WebP file's bytes, uint8 (n,)."""
    from midsight.library.index.preview import thumbnail  # where an index is served

    data = thumbnail(Path(shown.path), shown.kind, shown.start, shown.page, shown.side, "WEBP")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def serve(parent: socket.socket) -> None:
    """Answers until the other side is gone."""
    reading = Reading.of_message(receive(parent)[0])
    reader = Reader(reading)
    while True:
        header, data = receive(parent)
        give_time(reading.seconds)
        answer, pixels = _answer(reader, bytes(data), Wanted.of_message(header))
        give_time(0)
        send(parent, answer, b"" if pixels is None else pixels.contiguous().numpy().data.cast("B"))
        del data, pixels


def _answer(reader: Reader, data: bytes, wanted: Wanted) -> tuple[dict[str, Any], Tensor | None]:
    """A message, and the pixels that go with it."""
    try:
        found = reader.read(data, wanted)
    except Unreadable as error:
        return {"error": str(error)}, None
    except Exception as error:  # a decoder's own fault on a file that nobody has thought of
        return {"error": f"it cannot be decoded ({type(error).__name__})", "fault": traceback.format_exc()}, None
    return ({"shape": list(found.shape)}, found) if isinstance(found, Tensor) else ({"seconds": found}, None)


def main() -> None:
    """The template, for the connection whose number is the last argument."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a server that is told to stop finishes first, and ends this one
    threads.keep_freed_memory()
    threads.step_back()
    torch.set_num_threads(1)
    with connection() as control:
        split(control, serve)


if __name__ == "__main__":
    main()
