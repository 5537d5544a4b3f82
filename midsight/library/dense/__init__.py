"""Dense tasks over pictures, folders, videos and cameras: a job that writes files and can be stopped at any moment.

`plan` says what is worked on and under which name, `state` what is finished, `job` runs; `segment`, `depth` and
`detect` write the results of their task, the last with `exports` for other programs.
"""

from midsight.library.dense.depth import DepthResults
from midsight.library.dense.detect import FORMATS, DetectResults
from midsight.library.dense.exports import read_detections
from midsight.library.dense.job import DenseJob, Done
from midsight.library.dense.segment import SegmentResults
from midsight.library.dense.state import restart

__all__ = [
    "FORMATS",
    "DenseJob",
    "DepthResults",
    "DetectResults",
    "Done",
    "SegmentResults",
    "read_detections",
    "restart",
]
