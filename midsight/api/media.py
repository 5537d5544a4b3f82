"""From any mixture of pictures and videos to batches of pixels, and back to one outcome for each input."""

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from midsight import video
from midsight.ahead import read_ahead
from midsight.errors import InputError, MediaError, MidsightError
from midsight.files import available_cpus
from midsight.images import Scratch, describe
from midsight.transforms.image import ImageTransform

T = TypeVar("T")
U = TypeVar("U")
Kind = Literal["auto", "image", "video"]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """One result or one failure of bulk work.

    Attributes:
        index: which input, from 0.
        source: the input itself.
        value: the result, or None.
        error: why there is none, or None.
        start, end: seconds, for what comes from a video file.
        short_read: the video is cut or broken, and this is of what can be read.
    """

    index: int
    source: Any
    value: T | None = None
    error: MidsightError | None = None
    start: float | None = None
    end: float | None = None
    short_read: bool = False

    def unwrap(self) -> T:
        """The result.

        Raises:
            MidsightError: the input failed; the message names it.
        """
        if self.error is not None:
            raise self.error
        if self.value is None:
            raise MidsightError(f"input {self.index} has neither a result nor an error")
        return self.value

    def map(self, function: Callable[[T], U]) -> "Outcome[U]":
        """The same input with `function` of its result; failures stay failures."""
        value = None if self.value is None else function(self.value)
        return Outcome(self.index, self.source, value, self.error, self.start, self.end, self.short_read)


@dataclass(frozen=True)
class Entry:
    """One picture, video or segment of a batch, or the error in its place."""

    index: int
    source: Any
    frames: Tensor | None = None  # uint8 (T, 3, S, S)
    error: MidsightError | None = None
    start: float | None = None
    end: float | None = None
    short_read: bool = False


@dataclass(frozen=True)
class Batch:
    """Consecutive entries, with the pixels of the good ones put together."""

    entries: Sequence[Entry]

    @property
    def counts(self) -> list[int]:
        """Frames of each good entry."""
        return [len(entry.frames) for entry in self.entries if entry.frames is not None]

    @property
    def pixels(self) -> Tensor | None:
        """uint8 (F, 3, S, S), or None where no entry is good."""
        frames = [entry.frames for entry in self.entries if entry.frames is not None]
        return torch.cat(frames) if frames else None

    def raise_first_error(self) -> None:
        """Raises the error of the first bad entry, if there is one."""
        for entry in self.entries:
            if entry.error is not None:
                raise entry.error

    def outcomes(self, results: Iterable[T | None]) -> Iterator[Outcome[T]]:
        """Results of the good entries, in order, put back among the bad ones; None is a result that cannot be used."""
        following = iter(results)
        for entry in self.entries:
            value = None if entry.error is not None else next(following)
            error = entry.error
            if error is None and value is None:
                error = MidsightError(f"{describe(entry.source)}: the encoder gives no finite embedding for it")
            yield Outcome(entry.index, entry.source, value, error, entry.start, entry.end, entry.short_read)


@dataclass(frozen=True)
class Reader:
    """How inputs are read.

    Attributes:
        transform: pictures to pixels.
        kind: what the inputs are.
        num_frames: frames of a video or segment.
        segment_seconds: length of the segments of a video; None takes it whole.
        skip_segments: segments of the first input to leave out, for work that is taken up again.
        workers: threads that decode.
    """

    transform: ImageTransform
    kind: Kind = "auto"
    num_frames: int = 8
    segment_seconds: float | None = None
    skip_segments: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "image", "video"):
            raise InputError(f"kind must be auto, image or video, got {self.kind!r}")
        if self.num_frames < 1:
            raise InputError(f"num_frames must be at least 1, got {self.num_frames}")
        if self.segment_seconds is not None and not self.segment_seconds > 0:
            raise InputError(f"segments must be longer than 0 seconds, got {self.segment_seconds}")

    def batches(self, sources: Any, batch_size: int) -> Iterator[Batch]:
        """Inputs in order, about `batch_size` frames at a time, decoded ahead.

        Raises:
            InputError: a batch size below 1, or `sources` is neither an input nor an iterable of them.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        numbered = enumerate(as_iterable(sources, self.kind))
        ahead = max(batch_size, self.workers) + self.workers
        entries: list[Entry] = []
        frames = 0
        for (index, source), item in read_ahead(numbered, self.read, workers=self.workers, inputs_ahead=ahead):
            if isinstance(item, MemoryError):
                item = MediaError(f"{describe(source)}: not enough memory to decode it.")
            if isinstance(item, Exception):
                if not isinstance(item, MidsightError):
                    raise item
                item = Entry(index, source, error=item)
            entries.append(item)
            frames += 0 if item.frames is None else len(item.frames)
            if max(frames, len(entries)) >= batch_size:
                yield Batch(entries)
                entries, frames = [], 0
        if entries:
            yield Batch(entries)

    def read(self, numbered: tuple[int, Any]) -> Iterator[Entry]:
        """What an input holds, here and now: one entry, or one for each segment of a video.

        Args:
            numbered: the input behind its index.

        Raises:
            MidsightError: it cannot be read, or not to its end.
        """
        index, source = numbered
        if not self._is_video(source):
            yield Entry(index, source, self._pixels(source)[None].contiguous())
        elif isinstance(source, np.ndarray | Tensor):
            yield Entry(index, source, self._clip(source))
        else:
            for clip in itertools.islice(self._clips(source), 0 if index else self.skip_segments, None):
                frames = self._clip(clip.frames)
                yield Entry(index, source, frames, None, float(clip.start), float(clip.end), clip.short_read)

    def _clips(self, source: Any) -> Iterator[video.Clip]:
        if isinstance(source, video.Clip):
            yield source
        elif self.segment_seconds is None:
            yield video.sample_frames(source, self.num_frames)
        else:
            yield from video.segments(source, seconds=self.segment_seconds, num_frames=self.num_frames)

    def _clip(self, frames: npt.NDArray[Any] | Tensor) -> Tensor:
        """Frames to uint8 (T, 3, S, S)."""
        if not len(frames):
            raise MediaError("a clip of no frames at all; expected at least one")
        return torch.stack([self._pixels(frame) for frame in frames])

    def _pixels(self, source: Any) -> Tensor:
        scratch = getattr(_of_thread, "scratch", None)
        if scratch is None:
            scratch = _of_thread.scratch = Scratch()
        return self.transform.pixels(source, scratch)

    def _is_video(self, source: Any) -> bool:
        if self.kind != "auto":
            return self.kind == "video"
        if isinstance(source, str | os.PathLike):
            return os.path.splitext(source)[1].lower() in video.VIDEO_SUFFIXES
        return isinstance(source, video.Clip) or getattr(source, "ndim", 0) == 4


_of_thread = threading.local()
_SINGLE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, video.Clip)


def workers_for(device: torch.device) -> int:
    """Decoding threads: half of the CPUs where the encoder needs them as well, else all."""
    cpus = available_cpus()
    return max(1, cpus // 2) if device.type == "cpu" else cpus


def as_iterable(sources: Any, kind: Kind = "auto") -> Iterable[Any]:
    """Inputs one by one; a single one counts as a list of one.

    Raises:
        InputError: neither an input nor an iterable.
    """
    if isinstance(sources, _SINGLE) or hasattr(sources, "read"):
        return [sources]
    if isinstance(sources, np.ndarray | Tensor):
        dimensions = 3 if kind == "image" else 4
        return list(sources) if sources.ndim > dimensions else [sources]
    if isinstance(sources, Iterable):
        return sources
    raise InputError(
        f"expected a path, bytes, a PIL image, an array, a tensor, or an iterable of them; got {type(sources).__name__}"
    )


def pool_frames(features: Tensor, counts: Sequence[int]) -> list[npt.NDArray[np.float32] | None]:
    """Features of frames (F, D) to one embedding for each clip; None where no direction is left."""
    alone = len(counts) == len(features)  # pictures only: nothing to average
    means = features if alone else torch.stack([rows.mean(dim=0) for rows in torch.split(features, list(counts))])
    usable = (torch.isfinite(means).all(dim=1) & (means.norm(dim=1) > 0)).tolist()
    return [row if ok else None for row, ok in zip(F.normalize(means, dim=1).numpy(), usable, strict=True)]


def collect(outcomes: Iterable[Outcome[npt.NDArray[np.float32]]], width: int) -> npt.NDArray[np.float32]:
    """All results as rows, float32 (N, width).

    Raises:
        MidsightError: the first failure.
    """
    rows = [outcome.unwrap() for outcome in outcomes]
    return np.stack(rows) if rows else np.empty((0, width), np.float32)
