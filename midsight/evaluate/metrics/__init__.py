"""Metrics, each a function of scores and truth that returns figures by name."""

from midsight.evaluate.metrics.depth import depth_errors, mean_errors
from midsight.evaluate.metrics.jf import jf
from midsight.evaluate.metrics.segmentation import Confusion
from midsight.evaluate.metrics.zero_shot import classification, interval, retrieval

__all__ = ["Confusion", "classification", "depth_errors", "interval", "jf", "mean_errors", "retrieval"]
