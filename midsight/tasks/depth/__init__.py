"""Depth in metres by a head over a frozen encoder."""

from midsight.tasks.depth.head import DepthHead, DepthRange
from midsight.tasks.depth.losses import depth_loss, gradient_loss, scale_invariant_log_loss
from midsight.tasks.depth.predict import DepthConfig, DepthEstimator

__all__ = [
    "DepthConfig",
    "DepthEstimator",
    "DepthHead",
    "DepthRange",
    "depth_loss",
    "gradient_loss",
    "scale_invariant_log_loss",
]
