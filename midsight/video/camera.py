"""Cameras through FFmpeg's capture devices: always the newest frame, whatever the pace of who looks at them.

`camera:0` is the first camera, `camera:NAME` another one: /dev/video2 on Linux, a name or number of AVFoundation on
macOS, a name of DirectShow on Windows. `camera:FORMAT:NAME` is any capture device of FFmpeg, such as a screen
(x11grab, gdigrab) or a source of test pictures (lavfi).
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from midsight.errors import InputError, MediaError
from midsight.video.frames import TimedFrame
from midsight.video.source import DEFAULT_LIMITS, VideoLimits

PREFIX = "camera:"
FORMATS = ("v4l2", "avfoundation", "dshow", "x11grab", "gdigrab", "lavfi")
PATIENCE = 10.0  # seconds without a frame, after which a camera counts as gone
_POLL = 0.1  # seconds between looks at the stop sign
_USUAL_RATE = 30.0  # frames a second, where a device does not say


@dataclass(frozen=True)
class Device:
    """What FFmpeg is asked to open."""

    file: str
    format: str
    options: dict[str, str] = field(default_factory=dict)


def is_camera(source: object) -> bool:
    """Whether an input is a camera; a file of such a name is written ./camera:0."""
    return isinstance(source, str) and source.startswith(PREFIX)


def find_device(
    source: str, platform: str = sys.platform, names: Callable[[str], Sequence[str]] | None = None
) -> Device:
    """The device that `camera:...` means on a platform.

    Args:
        source: as the module says.
        platform: as `sys.platform`.
        names: gives the names of a format's devices; by default FFmpeg is asked.

    Raises:
        InputError: nothing behind the colon, or a platform whose cameras are not known.
        MediaError: no camera of that number.
    """
    name = source.removeprefix(PREFIX)
    kind, _, rest = name.partition(":")
    if kind in FORMATS and rest:
        return Device(rest, kind)
    if not name:
        raise InputError(f"{source!r} names no camera; expected camera:0 or camera:NAME")
    if platform.startswith("linux"):
        return Device(f"/dev/video{name}" if name.isdigit() else name, "v4l2")
    if platform == "darwin":
        return Device(f"{name}:none", "avfoundation", {"framerate": "30"})  # its default of 29.97 is often refused
    if platform == "win32":
        return Device(f"video={_numbered(name, names or _names) if name.isdigit() else name}", "dshow")
    raise InputError(f"{source}: cameras of {platform} are not known; give camera:FORMAT:NAME")


def _numbered(number: str, names: Callable[[str], Sequence[str]]) -> str:
    """DirectShow knows names only."""
    found = names("dshow")
    if int(number) >= len(found):
        raise MediaError(f"camera:{number}: there is no such camera; found are {', '.join(found) or 'none'}")
    return found[int(number)]


def _names(kind: str) -> list[str]:
    import av

    listing = getattr(av, "enumerate_input_devices", None)  # PyAV 18
    if listing is None:
        raise InputError("this PyAV cannot list cameras; give the name: camera:Integrated Camera")
    return [device.name for device in listing(kind) if "video" in device.media_types]


class Camera:
    """A running camera; iterating gives the newest frame each time, and waits where there is none yet.

    Attributes:
        name: as it was asked for.
        dropped: frames that were passed over, because newer ones came before somebody looked.
        ended: why the device stopped by itself, or None.
        stopped: whether it was told to stop.
    """

    def __init__(self, container: Any, name: str, seconds: float | None) -> None:
        self.name, self.dropped = name, 0
        self._container, self._seconds = container, seconds
        self._stream = container.streams.video[0]
        self._rate = float(self._stream.average_rate or _USUAL_RATE)
        self._news = threading.Condition()
        self._newest: tuple[int, float, Any] | None = None
        self.stopped = False
        self._thread = threading.Thread(target=self._capture, name="midsight-camera", daemon=True)
        self.ended: str | None = None

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until `stop`, until so many seconds are over, or until the device ends.

        Raises:
            MediaError: the device gave not one frame.
        """
        seen = False
        while (taken := self._next()) is not None:
            index, at, frame = taken
            if self._seconds is not None and seen and at >= self._seconds:
                return
            seen = True
            yield TimedFrame(frame.to_ndarray(format="rgb24"), index, at, at + 1 / self._rate, None)
        if not seen and not self.stopped:
            raise MediaError(f"{self.name}: gave not one picture ({self.ended}).")

    def stop(self) -> None:
        """Ends the iteration with the frame that is being looked at; may be called from a handler of signals."""
        self.stopped = True

    def start(self) -> None:
        """Starts to capture, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stops and gives the device back."""
        self.stopped = True
        self._thread.join(PATIENCE)  # the thread closes the device; one that hangs is left to the end of the process

    def _next(self) -> tuple[int, float, Any] | None:
        until = time.monotonic() + PATIENCE
        with self._news:
            while not self.stopped:
                if self._newest is not None:
                    taken, self._newest = self._newest, None
                    return taken
                if self.ended is None and time.monotonic() > until:
                    self.ended = f"no picture for {PATIENCE:g} s"
                if self.ended is not None:
                    return None
                self._news.wait(_POLL)
        return None

    def _capture(self) -> None:
        reason = "it ended by itself"
        try:
            for number, (at, frame) in enumerate(self._frames()):
                with self._news:
                    self.dropped += self._newest is not None
                    self._newest = number, at, frame
                    self._news.notify()
                if self.stopped:
                    break
        except Exception as error:  # whatever a driver makes of an unplugged camera ends the recording, and is told
            reason = str(getattr(error, "strerror", None) or error)
        finally:
            self._container.close()
            with self._news:
                self.ended = None if self.stopped else reason
                self._news.notify()

    def _frames(self) -> Iterator[tuple[float, Any]]:
        """(seconds after the first frame, frame); a packet that is broken on the wire is left out."""
        from av import InvalidDataError

        first: float | None = None
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except InvalidDataError:
                continue
            for frame in frames:
                at = time.monotonic() if frame.time is None else float(frame.time)
                first = at if first is None else first
                yield at - first, frame


@contextmanager
def open_camera(source: str, seconds: float | None = None, *, limits: VideoLimits = DEFAULT_LIMITS) -> Iterator[Camera]:
    """A camera that captures from now to the end of the block.

    Args:
        source: `camera:...`, as the module says.
        seconds: end after so long, by the device's clock; None: go on until `stop`.
        limits: on the pixels of a frame.

    Raises:
        InputError: no name of a camera, or `seconds` not above 0.
        MediaError: there is no such camera, it is in use, or its pictures are too large.
    """
    import av

    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds must be above 0, got {seconds}")
    device = find_device(source)
    try:
        container = av.open(device.file, format=device.format, options=device.options)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{source}: {_why(error, device)}") from error
    try:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None:
            raise MediaError(f"{source}: gives no pictures, only sound.")
        if stream.codec_context.width * stream.codec_context.height > limits.max_pixels:
            raise MediaError(f"{source}: pictures of more than {limits.max_pixels} pixels, VideoLimits.max_pixels.")
    except BaseException:
        container.close()
        raise
    camera = Camera(container, source, seconds)
    camera.start()
    try:
        yield camera
    finally:
        camera.close()


def _why(error: Exception, device: Device) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no camera {device.file}. Plug it in, or name another one."
    if isinstance(error, PermissionError):
        return f"{device.file} may not be opened. Give this user the right to it (on Linux, the group video)."
    if "no container format" in str(error):
        return f"this PyAV has no capture device {device.format}, so cameras cannot be opened with it."
    return f"{device.file} cannot be opened by {device.format} ({getattr(error, 'strerror', None) or error})."
