"""Files in, results out: `load()` and what it returns."""

from midsight.api.by_labels import open_labels, open_vocabulary
from midsight.api.dense import dense_encoder, load_depth_estimator, load_segmenter, open_depth, open_segmenter
from midsight.api.detector import open_detector
from midsight.api.loading import load
from midsight.api.media import Outcome
from midsight.api.opened import Opened
from midsight.api.perception import Perception

__all__ = [
    "Opened",
    "Outcome",
    "Perception",
    "dense_encoder",
    "load",
    "load_depth_estimator",
    "load_segmenter",
    "open_depth",
    "open_detector",
    "open_labels",
    "open_segmenter",
    "open_vocabulary",
]
