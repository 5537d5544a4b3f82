"""Files in, results out: `load()` and what it returns."""

from midsight.api.dense import dense_encoder, load_depth_estimator, load_segmenter, open_vocabulary
from midsight.api.loading import load
from midsight.api.media import Outcome
from midsight.api.perception import Perception

__all__ = [
    "Outcome",
    "Perception",
    "dense_encoder",
    "load",
    "load_depth_estimator",
    "load_segmenter",
    "open_vocabulary",
]
