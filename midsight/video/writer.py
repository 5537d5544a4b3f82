"""Writing videos: H.264 in MP4, each frame at its own time, the file whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import MediaError, MissingDependencyError, OutputError, ShapeError
from midsight.files import StrPath, atomic_write

UNIT = Fraction(1, 90_000)  # seconds; divides the frame times of all usual rates
_OPTIONS = {"preset": "veryfast", "crf": "20"}  # of x264
_ENCODERS = ("libx264", "libopenh264")  # by name: FFmpeg's own choice may be a device that is not there
_LARGEST = 16_384  # pixels: longest side that H.264 players and encoders take


class VideoWriter:
    """A video that is being written; `write_video` opens one.

    Attributes:
        frames: how many were added.
    """

    def __init__(self, container: Any, name: str) -> None:
        self.frames = 0
        self._container, self._name = container, name
        self._stream: Any = None
        self._size = (0, 0)  # height, width of the frames that are given
        self._last = -1  # pts
        self._durations: dict[int, int] = {}  # by pts, of frames that the encoder holds

    def add(self, pixels: npt.NDArray[np.uint8], time: float, end: float | None = None) -> None:
        """One frame more.

        Args:
            pixels: uint8 (H, W, 3), RGB, all of one size. An odd side is made even by repeating its last line, for
                colours are stored for pairs of pixels.
            time: seconds, from 0; a frame that is not later than the one before it comes right behind it.
            end: seconds: until when it is shown; matters for the last frame only.

        Raises:
            ShapeError: not pixels, or of another size than the first frame.
            MediaError: larger than H.264 allows.
            OutputError: the disk is full.
            MissingDependencyError: PyAV without an encoder for H.264.
        """
        from av import VideoFrame

        self._check(pixels)
        pts = max(round(time / UNIT), self._last + 1)
        frame = VideoFrame.from_ndarray(_even(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts, UNIT
        self._durations[pts] = max(1, round((end - time) / UNIT)) if end is not None else 0
        self._last = pts
        self._write(frame)
        self.frames += 1

    def finish(self) -> None:
        """Hands over what the encoder holds.

        Raises:
            OutputError: not one frame was added, or the disk is full.
        """
        if self._stream is None:
            raise OutputError(f"{self._name}: a video needs at least one frame")
        self._write(None)

    def _write(self, frame: Any) -> None:
        from av import FFmpegError

        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._durations.pop(packet.pts, 0)
                self._container.mux(packet)
        except FFmpegError as error:
            raise OutputError(f"{self._name}: could not be written ({error.strerror or error})") from error

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise ShapeError(f"{self._name}: expected frames uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        size = pixels.shape[0], pixels.shape[1]
        if self._stream is None:
            self._open(*size)
        elif size != self._size:
            raise ShapeError(
                f"{self._name}: a frame of {size[1]}x{size[0]} in a video of {self._size[1]}x{self._size[0]}"
            )

    def _open(self, height: int, width: int) -> None:
        from av.video.reformatter import ColorRange, Colorspace

        if max(height, width) > _LARGEST:
            raise MediaError(f"{self._name}: frames of {width}x{height}; H.264 takes at most {_LARGEST} pixels a side")
        self._size = height, width
        self._stream = self._container.add_stream(_encoder(), rate=Fraction(30), options=_OPTIONS)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context.time_base = self._stream.time_base = UNIT
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = 1  # ITU-R BT.709 in both tables


@contextmanager
def write_video(path: StrPath) -> Iterator[VideoWriter]:
    """An MP4 file that takes the place of `path` when the block ends well, and leaves nothing when it does not.

    Raises:
        OutputError: the file cannot be written, or no frame was added.
    """
    import av

    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        writer = VideoWriter(container, str(path))
        yield writer
        writer.finish()


def _encoder() -> str:
    from av.codec import codecs_available

    for name in _ENCODERS:
        if name in codecs_available:
            return name
    raise MissingDependencyError(
        f"this PyAV has no encoder for H.264 ({' or '.join(_ENCODERS)}). Install its wheel: pip install av"
    )


def _even(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)
