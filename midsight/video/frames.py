"""Every frame of a video, or each N-th, with its time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.video.reader import Reader, TimelineError
from midsight.video.source import DEFAULT_LIMITS, Source, VideoLimits, open_source


@dataclass(frozen=True)
class TimedFrame:
    """One frame and when it is shown."""

    pixels: npt.NDArray[np.uint8]  # (H, W, 3), RGB, upright
    index: int  # which frame of the video, counted from 0
    time: float  # seconds after the video's first frame
    end: float  # seconds: when the next one that is asked for takes its place
    total: int | None  # how many frames are asked for, as far as that is known


class VideoFrames:
    """An open video; iterating gives its frames, one at a time and once.

    Attributes:
        source: the open file.
    """

    def __init__(self, source: Source, every: int) -> None:
        self.source, self._every = source, every
        self._reader = Reader(source)

    @property
    def short_read(self) -> bool:
        """Whether the file is cut or broken, as far as it was read; whole only behind the last frame."""
        return self._reader.short_read

    def __iter__(self) -> Iterator[TimedFrame]:
        number = 0
        while number < len(self._reader.timeline):
            timeline = self._reader.timeline
            chosen = range(number, len(timeline), self._every)
            total = number // self._every + len(chosen)
            try:
                for index, pixels in self._reader.frames(chosen):
                    number = index + self._every
                    end = timeline.times[number] if number < len(timeline) else timeline.end
                    yield TimedFrame(pixels, index, float(timeline.times[index]), float(end), total)
            except TimelineError:
                self._reader.recount()


@contextmanager
def open_frames(video: Any, every: int = 1, *, limits: VideoLimits = DEFAULT_LIMITS) -> Iterator[VideoFrames]:
    """A video to be read from its first frame to its last.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.
        every: take each frame whose index is a multiple of it.

    Raises:
        MediaError: missing, empty, no video, without frames, or beyond the limits.
        InputError: `every` below 1.
    """
    if every < 1:
        raise InputError(f"every must be at least 1, got {every}")
    with open_source(video, limits) as source:
        yield VideoFrames(source, every)
