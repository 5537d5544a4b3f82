"""Opening a video safely, and the time stamps of its real frames, found without decoding.

PyAV is imported where a video is opened: what only sees pictures does without it.
"""

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import ConfigError, InputError, MediaError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".3gp", ".3g2")
    + (".wmv", ".asf", ".flv", ".f4v", ".ogv", ".vob", ".mxf")
)
# Only containers that hold their own pictures: a playlist could make FFmpeg open other files or addresses.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,av1,ivf,flv,asf,ogg,mxf,gif,nut,wtv,yuv4mpegpipe"
)
_TIME_BASE = 1_000_000  # units of a container's duration in a second, as FFmpeg counts
_ALLOWED = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


class MediaWarning(UserWarning):
    """A video that could be read in part: what there is was used."""


@dataclass(frozen=True)
class VideoLimits:
    """What a video may cost; beyond it, a MediaError."""

    max_pixels: int = 178_956_970  # of one frame, as stored
    max_bytes: int = 2**40  # of the file
    max_frames: int = 5_184_000  # of the video: a day at 60 frames a second
    max_seconds: float = 86_400.0  # of the video
    timeout: float | None = None  # seconds of wall time for one call, looked at after every packet

    def __post_init__(self) -> None:
        values = (self.max_pixels, self.max_bytes, self.max_frames, self.max_seconds)
        if min(values) <= 0 or (self.timeout is not None and self.timeout <= 0):
            raise ConfigError(f"limits must be above 0, got {self}")


DEFAULT_LIMITS = VideoLimits()


@dataclass(frozen=True)
class VideoInfo:
    """What is really in a file, not what its header says."""

    width: int  # of the frames as given out: upright
    height: int
    frames: int
    duration: float  # seconds, from the first frame to the end of the last
    fps: float  # frames / duration
    codec: str
    rotation: int  # degrees that the frames are turned by, counter-clockwise
    short_read: bool  # cut or broken: only a part can be read


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in the order that they are shown in; T of them."""

    times: npt.NDArray[np.float64]  # (T,) seconds after the first frame
    pts: npt.NDArray[np.int64] | None  # (T,) in units of the stream; None: frames can only be counted
    keys: npt.NDArray[np.int64]  # (K, 2) pts and dts of the packets of key frames, rising; some may never be shown
    end: float  # seconds: when the last frame ends
    short_read: bool

    def __len__(self) -> int:
        return len(self.times)


class Source:
    """An open container, the stream of pictures in it, and a clock for the limit on time."""

    def __init__(self, container: Any, stream: Any, name: str, path: str | None, limits: VideoLimits) -> None:
        self.container = container
        self.stream = stream
        self.name = name
        self.path = path  # of a file on the disk, else None
        self.limits = limits
        self.codec: str = stream.codec_context.codec.canonical_name  # "av1", whichever library decodes it
        self.is_matroska: bool = "matroska" in container.format.name
        self.is_stream_of_bytes = container.format.name.split(",")[0] not in ("mov", "matroska", "avi", "asf", "flv")
        self.last_packet = 0.0  # seconds: where the packets of all streams end, as far as they were read
        self.first_dts = int(stream.start_time or 0)
        self.started = time.monotonic()

    def check_time(self) -> None:
        if self.limits.timeout is not None and time.monotonic() - self.started > self.limits.timeout:
            raise MediaError(
                f"{self.name}: took longer than the limit of {self.limits.timeout:g} s. Raise the timeout."
            )

    def check_frames(self, frames: int) -> None:
        if frames > self.limits.max_frames:
            raise MediaError(f"{self.name}: more than {self.limits.max_frames} frames, VideoLimits.max_frames.")

    def check_seconds(self, seconds: float) -> None:
        if seconds > self.limits.max_seconds:
            raise MediaError(
                f"{self.name}: {seconds:.0f} seconds long, the limit is {self.limits.max_seconds:g}. "
                f"Raise VideoLimits.max_seconds."
            )

    def check_pixels(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            raise MediaError(
                f"{self.name}: frames of {width}x{height} are {width * height} pixels, the limit is "
                f"{self.limits.max_pixels}. Raise VideoLimits.max_pixels."
            )

    def rewind(self) -> None:
        """Back to the first packet, which may lie before time 0."""
        self.container.seek(self.first_dts, stream=self.stream, backward=True)


def describe(video: Any) -> str:
    """A short name of a video for messages."""
    if isinstance(video, str | os.PathLike):
        return str(video)
    if isinstance(video, bytes | bytearray | memoryview):
        return f"<{len(video)} bytes>"
    return str(getattr(video, "name", "") or f"<{type(video).__name__}>")


@contextmanager
def open_source(video: Any, limits: VideoLimits) -> Iterator[Source]:
    """Opens a path, bytes or a seekable binary file.

    Raises:
        MediaError: missing, empty, no video, without pictures, or beyond the limits.
        InputError: none of these kinds.
    """
    import av

    name = describe(video)
    try:
        file, path = _file_of(video, limits, name)
        with av.open(file, options=_ALLOWED, metadata_errors="replace") as container:
            stream = _picture_stream(container, name)
            source = Source(container, stream, name, path, limits)
            source.check_pixels(stream.codec_context.width, stream.codec_context.height)
            yield source
    except av.FFmpegError as error:
        raise MediaError(f"{name}: not a video that FFmpeg can read, or cut or broken ({error.strerror}).") from error
    except (UnicodeError, ValueError, OSError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise MediaError(f"{name}: cannot be read ({type(error).__name__}: {error}).") from error


def _file_of(video: Any, limits: VideoLimits, name: str) -> tuple[Any, str | None]:
    if isinstance(video, str | os.PathLike):
        path = _checked_path(Path(video), limits, name)
        return f"file:{path}", path  # the prefix: a name may contain a colon
    if isinstance(video, bytes | bytearray | memoryview):
        size, file = len(video), io.BytesIO(video)
    elif hasattr(video, "read") and hasattr(video, "seek"):
        size, file = video.seek(0, os.SEEK_END), video
        video.seek(0)
    else:
        raise InputError(f"{name}: not a video. Expected a path, bytes or an open binary file.")
    _check_size(size, limits, name)
    return file, None


def _checked_path(path: Path, limits: VideoLimits, name: str) -> str:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"{name}: no such file.") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name}: a folder, expected a video. Name the files in it.")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{name}: not a regular file, expected a video.")
    _check_size(status.st_size, limits, name)
    return str(path.absolute())


def _check_size(size: int, limits: VideoLimits, name: str) -> None:
    if size == 0:
        raise MediaError(f"{name}: empty, expected a video.")
    if size > limits.max_bytes:
        raise MediaError(f"{name}: {size} bytes, the limit is {limits.max_bytes}. Raise VideoLimits.max_bytes.")


def _picture_stream(container: Any, name: str) -> Any:
    import av

    # A cover picture in a music file is a video stream too, of one frame.
    cover = av.stream.Disposition.attached_pic
    moving = [s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None]
    if not moving:
        found = "a cover picture" if container.streams.video else "sound" if container.streams.audio else "no stream"
        raise MediaError(f"{name}: has no moving pictures, only {found}. Expected a video.")
    stream = moving[0]
    for other in container.streams:
        if other.index != stream.index and "matroska" not in container.format.name:
            other.discard = av.stream.Discard.all  # Matroska: see _ends_early
    # One thread a clip, and several clips at a time, beats several threads a clip.
    stream.codec_context.thread_count = 1
    return stream


# Time stamps


def scan(source: Source) -> Timeline | None:
    """The timeline from the packets alone, or None where packets do not tell the frames.

    A packet is a frame, except that hidden frames and packets outside an edit list are never shown.

    Raises:
        MediaError: more frames or seconds than the limits allow.
    """
    import av

    rows: list[tuple[int, int, bool, bool]] = []  # pts, dts, key, shown
    seen, end, cut, plain = 0, 0, False, True
    vp8 = source.codec == "vp8"
    try:
        for packet in _picture_packets(source):
            seen += 1
            if packet.is_corrupt:
                cut = True
            elif packet.pts is None or packet.size == 0:
                plain = False
            else:
                shown = not packet.is_discard and (not vp8 or _is_shown_in_vp8(packet))
                dts = packet.pts if packet.dts is None else packet.dts
                rows.append((packet.pts, dts, packet.is_keyframe, shown))
                end = max(end, packet.pts + (packet.duration or 0)) if shown else end
                source.check_frames(len(rows))
    except av.FFmpegError:
        cut = True
    cut = cut or seen < source.stream.frames or _ends_early(source)
    return _timeline(source, np.array(sorted(rows), dtype=np.int64), end, cut) if plain and rows else None


def _picture_packets(source: Source) -> Iterator[Any]:
    """Packets of the pictures, from where the container stands; notes where the last packet of any stream ends."""
    for packet in source.container.demux():
        source.check_time()
        if source.is_matroska and packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            source.last_packet = max(source.last_packet, end)
        if packet.stream_index == source.stream.index and (packet.size or packet.dts is not None):
            yield packet  # all but the empty one that PyAV adds at the end


def _is_shown_in_vp8(packet: Any) -> bool:
    """Not one of the frames that only serve to predict others (RFC 6386, 9.1: the bit show_frame)."""
    return bool(memoryview(packet)[0] >> 4 & 1)


def _timeline(source: Source, rows: npt.NDArray[np.int64], end: int, cut: bool) -> Timeline | None:
    pts, keys = rows[rows[:, 3] == 1, 0], rows[rows[:, 2] == 1, :2]
    if (np.diff(pts) == 0).any() or len(pts) == 0 or len(keys) == 0:
        return None
    source.first_dts = int(rows[:, 1].min())
    unit = float(source.stream.time_base)
    times = (pts - pts[0]) * unit
    last = max((end - int(pts[0])) * unit, float(times[-1]) + _usual_step(times, source.stream))
    source.check_seconds(last)
    return Timeline(times, pts, keys, last, cut)


def _usual_step(times: npt.NDArray[np.float64], stream: Any) -> float:
    """How long a frame is shown, for the last one where its packet does not say."""
    if len(times) > 1:
        return float(np.median(np.diff(times[-100:]))) * 0.5
    return 1 / float(stream.average_rate) if stream.average_rate else 0.0


def _ends_early(source: Source) -> bool:
    """Matroska's header says how long the longest stream is, and nothing else shows that the rest is missing."""
    declared = source.container.duration
    if declared is None or not source.is_matroska:
        return False
    return bool(declared / _TIME_BASE - source.last_packet > 0.5)
