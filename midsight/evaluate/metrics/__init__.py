"""Metrics, each a function of scores and truth that returns figures by name."""

from midsight.evaluate.metrics.jf import jf
from midsight.evaluate.metrics.zero_shot import classification, interval, retrieval

__all__ = ["classification", "interval", "jf", "retrieval"]
