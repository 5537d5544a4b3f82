"""Semantic segmentation by a head over a frozen encoder, or by names alone."""

from midsight.tasks.segmentation.head import segmentation_head
from midsight.tasks.segmentation.losses import cross_entropy
from midsight.tasks.segmentation.open_vocabulary import BACKGROUND, OpenConfig, OpenSegmenter, stuff_of, usual_config
from midsight.tasks.segmentation.predict import SegmentConfig, Segmenter

__all__ = [
    "BACKGROUND",
    "OpenConfig",
    "OpenSegmenter",
    "SegmentConfig",
    "Segmenter",
    "cross_entropy",
    "segmentation_head",
    "stuff_of",
    "usual_config",
]
