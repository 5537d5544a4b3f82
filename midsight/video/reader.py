"""Decoding chosen frames with PyAV, and no more than is needed for them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from midsight.errors import MediaError
from midsight.video.source import Source, Timeline, scan

Frame = npt.NDArray[np.uint8]  # (H, W, 3), RGB

# In these a frame that is marked as no reference is used by no other frame at all, so it need not be decoded.
_SKIPS = frozenset(("h264", "mpeg4", "mpeg2video", "mpeg1video"))


class TimelineError(Exception):
    """The decoder gave other frames than the packets promised."""


class Reader:
    """Frames by index.

    Where the packets tell the frames, it seeks: when the next wanted frame has a key frame ahead of what is decoded,
    it jumps there, else it decodes on. Where they do not, it decodes everything once to count, and once more to read.
    """

    def __init__(self, source: Source) -> None:
        from av import FFmpegError
        from av.video.reformatter import VideoReformatter

        self._broken = FFmpegError
        self.source = source
        self.errors = 0  # packets that could not be decoded
        self.turned = 0  # degrees, counter-clockwise, of the last frame given out
        self._codec = source.stream.codec_context
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._skipping = False
        self._position = -1  # index of the frame that came last
        self._passed_over: set[int] = set()  # pts of packets that the decoder may have left out
        self._last: tuple[int, Frame] | None = None  # what was given out last
        self._pending: list[Any] = []
        self._packets: Iterator[Any] = iter(())
        self._lost = True  # at the end of the file: the first frame needs a seek
        timeline = scan(source)
        self.timeline = self._count() if timeline is None else timeline

    @property
    def short_read(self) -> bool:
        return self.timeline.short_read or self.errors > 0

    def recount(self) -> None:
        """Replaces the timeline by what the decoder really gives.

        Raises:
            MediaError: not one frame.
        """
        self.timeline = self._count()
        self._last = None

    def frames(self, indices: Sequence[int], coming: Sequence[int] = ()) -> Iterator[tuple[int, Frame]]:
        """(index, pixels) of each index.

        Args:
            indices: rising, none twice; going back behind an earlier call costs a seek.
            coming: what the next call will ask for; decoders read ahead, so these must not be passed over now.

        Raises:
            TimelineError: a frame does not come out of the decoder; `recount`, choose again.
        """
        if self.timeline.pts is None:
            yield from self._by_counting(indices)
            return
        wanted = frozenset(int(self.timeline.pts[i]) for i in (*indices, *coming))
        for index in indices:
            if self._last is None or self._last[0] != index:
                self._last = index, self._pixels(self._by_time(index, wanted))
            yield self._last

    def key_frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """The same for key frames only: each is decoded alone."""
        pts = self.timeline.pts
        if pts is None:
            raise TimelineError
        for index in indices:
            self._seek(int(np.searchsorted(self.timeline.keys[:, 0], pts[index])))
            packet = next((p for p in self._packets if p is not None and p.pts == pts[index]), None)
            frames = [] if packet is None else [*self._decode(packet), *self._decode(None)]
            frame = next((f for f in frames if f.pts == pts[index]), None)
            if frame is None:
                raise TimelineError
            yield index, self._pixels(frame)
        self._lost = True

    # By time stamp

    def _by_time(self, index: int, wanted: frozenset[int]) -> Any:
        assert self.timeline.pts is not None
        pts, target = self.timeline.pts, int(self.timeline.pts[index])
        key = max(0, int(np.searchsorted(self.timeline.keys[:, 0], target, side="right")) - 1)
        behind = index <= self._position or target in self._passed_over
        if self._lost or behind or self.timeline.keys[key, 0] > pts[max(self._position, 0)]:
            self._seek(key)
        for frame in self._pending_then_decoded(wanted):
            if frame.pts == target:
                self._position = index
                self._passed_over = {p for p in self._passed_over if p > target}
                return frame
            if frame.pts is None or frame.pts > target:
                break
            self._position = int(np.searchsorted(pts, frame.pts))
        raise TimelineError

    def _seek(self, key: int) -> None:
        """Puts the packet of a key frame (its row in `keys`) next; an earlier one would cost a group of pictures."""
        keys = self.timeline.keys
        target, latest = keys[key]
        for candidate in (key, key - 1, key - 2, -1):  # some containers land behind what they were asked for
            if candidate < 0:
                self.source.rewind()
            else:
                self.source.container.seek(int(keys[candidate, 1]), stream=self.source.stream, backward=True)
            self._restart(rewind=False)
            # Where frames are cut out of a stream of bytes, the first one after a jump may get another's time stamp.
            doubtful = 2 if self.source.is_stream_of_bytes and candidate >= 0 else 0
            for number, packet in enumerate(self._packets):
                if packet is not None and packet.pts == target and packet.is_keyframe and number >= doubtful:
                    self._packets = itertools.chain((packet,), self._packets)
                    return
                if packet is None or (packet.dts is not None and packet.dts > latest):
                    break
        raise TimelineError

    def _restart(self, rewind: bool = True) -> None:
        if rewind:
            self.source.rewind()
        self._codec.flush_buffers()
        self._codec.skip_frame = "DEFAULT"
        self._skipping = self._lost = False
        self._position = -1
        self._passed_over = set()
        self._pending = []
        self._packets = self._demux()

    def _pending_then_decoded(self, wanted: frozenset[int], skip: bool = True) -> Iterator[Any]:
        skips = skip and self.source.codec in _SKIPS
        while True:
            while self._pending:
                yield self._pending.pop(0)
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            if skips and packet is not None and (packet.pts not in wanted) != self._skipping:
                self._skipping = not self._skipping
                self._codec.skip_frame = "NONREF" if self._skipping else "DEFAULT"
            if self._skipping and packet is not None:
                self._passed_over.add(packet.pts)
            self._pending.extend(self._decode(packet))

    # By counting

    def _count(self) -> Timeline:
        """Decodes everything, keeping only the time stamps."""
        self._restart()
        unit = float(self.source.stream.time_base)
        rate = float(self.source.stream.average_rate or 25)
        times: list[float] = []
        for frame in self._pending_then_decoded(frozenset(), skip=False):
            at = len(times) / rate if frame.pts is None else frame.pts * unit
            times.append(at if not times else max(at, times[-1]))
            self.source.check_seconds(times[-1] - times[0])
            self.source.check_frames(len(times))
        if not times:
            raise MediaError(f"{self.source.name}: not one frame of it can be decoded.")
        relative = np.array(times) - times[0]
        self._lost = True
        return Timeline(relative, None, np.empty((0, 2), np.int64), float(relative[-1]) + 1 / rate, self.errors > 0)

    def _by_counting(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        for index in indices:
            if self._lost or index <= self._position:
                self._restart()
            for frame in self._pending_then_decoded(frozenset(), skip=False):
                self._position += 1
                if self._position == index:
                    yield index, self._pixels(frame)
                    break
            else:
                raise MediaError(f"{self.source.name}: gave fewer frames when it was read again.")

    # Packets and frames

    def _demux(self) -> Iterator[Any]:
        """Packets that can be decoded, and None at the end, which makes the decoder give what it holds back."""
        try:
            for packet in self.source.container.demux(self.source.stream):
                self.source.check_time()
                if packet.is_corrupt:
                    self.errors += 1
                elif packet.size:
                    yield packet
        except self._broken:
            self.errors += 1
        yield None

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames = self._codec.decode(packet)
        except self._broken:
            self.errors += 1
            return []
        good = [f for f in frames if not f.is_corrupt]
        self.errors += len(frames) - len(good)
        return good

    def _pixels(self, frame: Any) -> Frame:
        """RGB, upright, and of the size of the first frame."""
        self.source.check_pixels(frame.width, frame.height)
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)  # threads: 3 times the CPU time
        pixels = cast(Frame, rgb.to_ndarray())
        self.turned = frame.rotation % 360
        return np.rot90(pixels, self.turned // 90) if self.turned else pixels
