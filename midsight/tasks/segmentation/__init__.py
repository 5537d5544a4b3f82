"""Semantic segmentation by a head over a frozen encoder, or by names alone."""

from midsight.tasks.segmentation.head import segmentation_head
from midsight.tasks.segmentation.losses import cross_entropy
from midsight.tasks.segmentation.open_vocabulary import OpenConfig, OpenSegmenter, usual_config
from midsight.tasks.segmentation.predict import SegmentConfig, Segmenter

__all__ = [
    "OpenConfig",
    "OpenSegmenter",
    "SegmentConfig",
    "Segmenter",
    "cross_entropy",
    "segmentation_head",
    "usual_config",
]
