"""Clips: a few frames of a video with their times, and a video cut into segments."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.video import torchcodec
from midsight.video.frames import open_frames
from midsight.video.indices import plm_indices, uniform_indices
from midsight.video.reader import Frame, Reader, TimelineError
from midsight.video.source import DEFAULT_LIMITS, MediaWarning, Source, Timeline, VideoInfo, VideoLimits, open_source

Backend = Literal["auto", "pyav", "torchcodec"]
_TINY = 1e-6  # seconds: below any frame, above any rounding


@dataclass(frozen=True)
class Clip:
    """Frames of one stretch of a video."""

    frames: npt.NDArray[np.uint8]  # (T, H, W, 3), RGB, upright
    times: npt.NDArray[np.float64]  # (T,) seconds after the video's first frame
    indices: npt.NDArray[np.int64]  # (T,) which frames of the video, counted from 0
    start: float  # seconds: the stretch that the frames stand for
    end: float
    short_read: bool = False  # the file is cut or broken: this is what could be read


def probe(video: Any, *, limits: VideoLimits = DEFAULT_LIMITS) -> VideoInfo:
    """What is in a video: size, real number of frames, duration. Decodes one frame.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.

    Raises:
        MediaError: missing, empty, no video, without frames, or beyond the limits.
    """
    with open_source(video, limits) as source:
        reader = Reader(source)
        frame = _first_frame(reader)
        timeline = reader.timeline
        seconds = timeline.end
        return VideoInfo(
            width=frame.shape[1],
            height=frame.shape[0],
            frames=len(timeline),
            duration=seconds,
            fps=len(timeline) / seconds if seconds > 0 else 0.0,
            codec=source.codec,
            rotation=reader.turned,
            short_read=reader.short_read,
        )


def _first_frame(reader: Reader) -> Frame:
    try:
        return next(reader.frames([0]))[1]
    except TimelineError:
        reader.recount()
        return next(reader.frames([0]))[1]


def sample_frames(
    video: Any,
    num_frames: int = 8,
    *,
    start: float | None = None,
    end: float | None = None,
    backend: Backend = "auto",
    approximate: bool = False,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Clip:
    """Evenly spaced frames, first and last included, as the published zero-shot evaluation takes them.

    Frames are found by their time stamps: variable frame rates, edit lists, hidden frames and wrong headers do not
    matter, and only what leads up to a wanted frame is decoded. Rotation is applied; the shape of pixels (sample
    aspect ratio) is not, as nowhere in the field.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.
        num_frames: how many; a shorter video repeats frames.
        start, end: the stretch to take them from, seconds after the first frame; `end` itself is left out.
        backend: which library decodes; the frames are the same. "pyav"; "torchcodec", which must be installed (files
            where it is not known to give the same frames go to PyAV); "auto" is PyAV, which is the faster of the two
            because it passes over frames that no wanted frame depends on.
        approximate: take the key frames nearest to the wanted ones instead: other frames, but many times faster on
            long videos with few key frames.
        limits: on size, length and time.

    Raises:
        MediaError: missing, empty, no video, without frames, or beyond the limits.
        InputError: `num_frames` below 1, or no frame between `start` and `end`.
        MissingDependencyError: backend "torchcodec" where it does not load.

    Warns:
        MediaWarning: the file is cut or broken, and the clip is made of what can be read.
    """
    if num_frames < 1:
        raise InputError(f"num_frames must be at least 1, got {num_frames}")
    if backend not in ("auto", "pyav", "torchcodec"):
        raise InputError(f"backend must be auto, pyav or torchcodec, got {backend!r}")
    if backend == "torchcodec":
        torchcodec.check()
    with open_source(video, limits) as source:
        reader = Reader(source)
        try:
            clip = _sample(reader, num_frames, start, end, backend, approximate)
        except TimelineError:
            reader.recount()
            clip = _sample(reader, num_frames, start, end, "pyav", approximate=False)
        if clip.short_read:
            _warn(source)
        return clip


def sample_seconds(
    video: Any,
    max_frames: int = 32,
    *,
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Clip:
    """About one frame a second, at most `max_frames`, as PerceptionLM looks at videos; see `plm_indices`.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.
        start, end: the part of the video, seconds after the first frame.

    Raises:
        MediaError: missing, empty, no video, without frames, or beyond the limits.
        InputError: `max_frames` below 1, or a part that begins behind the end.
    """
    with open_source(video, limits) as source:
        reader = Reader(source)
        try:
            clip = _each_second(reader, max_frames, start, end)
        except TimelineError:
            reader.recount()
            clip = _each_second(reader, max_frames, start, end)
        if clip.short_read:
            _warn(source)
        return clip


def segments(
    video: Any,
    seconds: float = 10.0,
    num_frames: int = 8,
    *,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Iterator[Clip]:
    """The whole video as clips of `seconds`, one after the other; the last one may be shorter.

    One pass: no more than one clip is in memory. A stretch in which nothing new is shown gets the frame that stands.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.
        seconds: length of a clip.
        num_frames: evenly spaced frames of each.

    Raises:
        MediaError: as `sample_frames`.
        InputError: `seconds` not above 0, or `num_frames` below 1.

    Warns:
        MediaWarning: the file is cut or broken.
    """
    if not seconds > 0 or num_frames < 1:
        raise InputError(f"seconds and num_frames must be above 0, got {seconds} and {num_frames}")
    return _segments(video, seconds, num_frames, limits)


def iter_frames(video: Any, *, limits: VideoLimits = DEFAULT_LIMITS) -> Iterator[npt.NDArray[np.uint8]]:
    """Every frame of a video, in order and one at a time.

    Args:
        video: a path, the bytes of a file, or a seekable binary file.

    Yields:
        uint8 (H, W, 3), RGB, upright.

    Raises:
        MediaError: as `sample_frames`.

    Warns:
        MediaWarning: the file is cut or broken; the frames end where it can no longer be read.
    """
    with open_frames(video, limits=limits) as frames:
        for frame in frames:
            yield frame.pixels
        if frames.short_read:
            _warn(frames.source)


def _segments(video: Any, seconds: float, num_frames: int, limits: VideoLimits) -> Iterator[Clip]:
    with open_source(video, limits) as source:
        reader = Reader(source)
        number = 0
        while number == 0 or number * seconds < reader.timeline.end - _TINY:
            start, end, chosen = _stretch(reader.timeline, number, seconds, num_frames)
            *_, coming = _stretch(reader.timeline, number + 1, seconds, num_frames)
            try:
                frames = dict(reader.frames(sorted(set(chosen)), coming))
            except TimelineError:
                reader.recount()  # stretches are told by time, so the next one follows on
                continue
            yield _clip(reader, frames, chosen, start, end)
            number += 1
        if reader.short_read:
            _warn(source)


def _stretch(timeline: Timeline, number: int, seconds: float, num_frames: int) -> tuple[float, float, list[int]]:
    """Start, end and frames of the segment of that number."""
    start, end = number * seconds, min((number + 1) * seconds, timeline.end)
    first, stop = _between(timeline, start, end)
    if first == stop:
        first -= 1  # nothing new is shown: the frame before still stands
    return start, end, [first + i for i in uniform_indices(max(stop - first, 1), num_frames)]


def _sample(
    reader: Reader, num_frames: int, start: float | None, end: float | None, backend: Backend, approximate: bool
) -> Clip:
    timeline = reader.timeline
    begin = max(start or 0.0, 0.0)
    finish = timeline.end if end is None else min(end, timeline.end)
    first, stop = _between(timeline, begin, finish if end is not None else float("inf"))
    if first == stop:
        raise InputError(
            f"{reader.source.name}: no frame between {begin:g} and {finish:g} s; its frames are from 0 to "
            f"{timeline.times[-1]:g} s."
        )
    chosen = [first + i for i in uniform_indices(stop - first, num_frames)]
    if approximate:
        chosen = _nearest_keys(timeline, chosen)
        frames = dict(reader.key_frames(sorted(set(chosen))))
    else:
        frames = _exact(reader, sorted(set(chosen)), backend)
    return _clip(reader, frames, chosen, begin, finish)


def _each_second(reader: Reader, max_frames: int, start: float | None, end: float | None) -> Clip:
    timeline = reader.timeline
    if start is not None and start >= timeline.end:
        raise InputError(f"{reader.source.name}: no frame after {start:g} s; the video ends at {timeline.end:g} s.")
    fps = len(timeline) / timeline.end if timeline.end > 0 else 1.0
    chosen = plm_indices(len(timeline), fps, max_frames, start, end)
    frames = dict(reader.frames(chosen))
    return _clip(reader, frames, chosen, max(start or 0.0, 0.0), timeline.end if end is None else end)


def _exact(reader: Reader, indices: Sequence[int], backend: Backend) -> dict[int, Frame]:
    if backend == "torchcodec" and torchcodec.suits(reader.source, reader.timeline):
        with contextlib.suppress(TimelineError):  # it cannot, so PyAV has to
            return torchcodec.frames(reader.source, reader.timeline, indices)
    return dict(reader.frames(indices))


def _between(timeline: Timeline, start: float, end: float) -> tuple[int, int]:
    """The frames with start <= time < end: the first, and the one behind the last."""
    first, stop = np.searchsorted(timeline.times, (start - _TINY, end - _TINY))
    return int(first), int(max(first, stop))


def _nearest_keys(timeline: Timeline, chosen: Sequence[int]) -> list[int]:
    """For each frame, the key frame that is nearest in time."""
    if timeline.pts is None:
        raise TimelineError
    keys = np.flatnonzero(np.isin(timeline.pts, timeline.keys[:, 0]))
    if len(keys) == 0:
        raise TimelineError
    return [int(keys[np.abs(timeline.times[keys] - timeline.times[i]).argmin()]) for i in chosen]


def _clip(reader: Reader, frames: dict[int, Frame], chosen: Sequence[int], start: float, end: float) -> Clip:
    indices = np.array(chosen, dtype=np.int64)
    pixels = np.stack([frames[i] for i in chosen])
    return Clip(pixels, reader.timeline.times[indices], indices, start, end, reader.short_read)


def _warn(source: Source) -> None:
    warnings.warn(
        f"{source.name}: cut or broken; the frames are from the part that can be read.", MediaWarning, stacklevel=3
    )
