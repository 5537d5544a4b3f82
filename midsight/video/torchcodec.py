"""The same frames by torchcodec, where it is installed, finds FFmpeg's libraries, and is known to be exact."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from midsight.errors import MissingDependencyError
from midsight.video.reader import Frame, TimelineError
from midsight.video.source import Source, Timeline

# Containers with an index of their frames: in others (MPEG-TS, AVI) torchcodec seeks to wrong frames without a word.
_CONTAINERS = frozenset(("mov", "matroska"))
# Deeper pixels are brought down to 8 bits differently by each version of FFmpeg.
_PIXELS = frozenset(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"))


@functools.cache
def _decoder_class() -> Any:
    """torchcodec's VideoDecoder, or the error that tells why there is none.

    Some versions look for FFmpeg's libraries when imported, others when first used: a file that is none tells.
    """
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined, unused-ignore]
    except (ImportError, RuntimeError, OSError) as error:  # not installed; libraries of FFmpeg not found
        return error
    try:
        VideoDecoder(b"no video")
    except (ImportError, RuntimeError, OSError, ValueError) as error:
        if "libtorchcodec" in str(error) and "Could not load" in str(error):
            return error
    return VideoDecoder


def check() -> None:
    """Sees that torchcodec is installed and finds FFmpeg's libraries.

    Raises:
        MissingDependencyError: it does not load; the message says why.
    """
    found = _decoder_class()
    if isinstance(found, Exception):
        reason = (str(found).strip() or type(found).__name__).splitlines()[0]
        raise MissingDependencyError(
            f"torchcodec does not load ({reason}). Install midsight[torchcodec] and FFmpeg 4 to 8 with its shared "
            f"libraries, or use backend 'pyav'."
        ) from found


def suits(source: Source, timeline: Timeline) -> bool:
    """Whether torchcodec is known to give exactly PyAV's frames of this file.

    Known exception: H.264 without key frames (gradual refresh), which nothing in the file announces.
    """
    codec = source.stream.codec_context
    return (
        source.path is not None
        and timeline.pts is not None
        and not timeline.short_read
        and source.container.format.name.split(",")[0] in _CONTAINERS
        and codec.pix_fmt in _PIXELS
        and codec.width % 2 == codec.height % 2 == 0  # the last pixel of colour is interpolated differently
    )


def frames(source: Source, timeline: Timeline, indices: Sequence[int]) -> dict[int, Frame]:
    """Pixels by index.

    Args:
        source, timeline: which `suits`.
        indices: rising, none twice.

    Raises:
        TimelineError: torchcodec cannot read the file, or gave frames of other times than the wanted ones.
    """
    assert timeline.pts is not None
    wanted = timeline.pts[list(indices)] * float(source.stream.time_base)
    try:
        # Its approximate mode would save a second scan, but fails at the end of files without an index.
        decoder = _decoder_class()(
            source.path, stream_index=source.stream.index, dimension_order="NHWC", num_ffmpeg_threads=1
        )
        batch = decoder.get_frames_at(list(indices))
    except (RuntimeError, ValueError, IndexError) as error:
        raise TimelineError(f"torchcodec cannot read it ({str(error).strip().splitlines()[0]}).") from error
    if not np.allclose(batch.pts_seconds.numpy(), wanted, rtol=0, atol=1e-5):
        raise TimelineError("torchcodec gave frames of other times than were asked for.")
    return dict(zip(indices, batch.data.numpy(), strict=True))
