"""Semantic segmentation by a head over a frozen encoder."""

from midsight.tasks.segmentation.head import segmentation_head
from midsight.tasks.segmentation.losses import cross_entropy
from midsight.tasks.segmentation.predict import SegmentConfig, Segmenter

__all__ = ["SegmentConfig", "Segmenter", "cross_entropy", "segmentation_head"]
