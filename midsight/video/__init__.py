"""Videos: evenly spaced frames by their time stamps, and segments with start and end.

`indices` has the published rules, `source` opens files and finds the real frames, `reader` decodes with PyAV and
`torchcodec` with torchcodec, `clips` puts them together.
"""

from midsight.video.clips import Clip, iter_frames, probe, sample_frames, segments
from midsight.video.indices import plm_indices, uniform_indices
from midsight.video.source import VIDEO_SUFFIXES, MediaWarning, VideoInfo, VideoLimits

__all__ = [
    "VIDEO_SUFFIXES",
    "Clip",
    "MediaWarning",
    "VideoInfo",
    "VideoLimits",
    "iter_frames",
    "plm_indices",
    "probe",
    "sample_frames",
    "segments",
    "uniform_indices",
]
