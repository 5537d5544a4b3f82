"""Videos: evenly spaced frames by their time stamps, and segments with start and end.

`indices` has the published rules, `source` opens files and finds the real frames, `reader` decodes with PyAV and
`torchcodec` with torchcodec, `clips` puts them together. `frames` gives every frame with its time, `camera` those of a
camera, and `writer` writes videos.
"""

from midsight.video.camera import Camera, is_camera, open_camera
from midsight.video.clips import Clip, iter_frames, probe, sample_frames, sample_seconds, segments
from midsight.video.frames import TimedFrame, VideoFrames, open_frames
from midsight.video.indices import plm_indices, uniform_indices
from midsight.video.source import VIDEO_SUFFIXES, MediaWarning, VideoInfo, VideoLimits
from midsight.video.writer import VideoWriter, write_video

__all__ = [
    "VIDEO_SUFFIXES",
    "Camera",
    "Clip",
    "MediaWarning",
    "TimedFrame",
    "VideoFrames",
    "VideoInfo",
    "VideoLimits",
    "VideoWriter",
    "is_camera",
    "iter_frames",
    "open_camera",
    "open_frames",
    "plm_indices",
    "probe",
    "sample_frames",
    "sample_seconds",
    "segments",
    "uniform_indices",
    "write_video",
]
