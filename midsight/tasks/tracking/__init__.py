"""Tracking without training: labels of a first frame, carried through a video."""

from midsight.tasks.tracking.predict import PropagationConfig, propagate, propagate_stream
from midsight.tasks.tracking.track import CONFIGS, DINO, PE, Tracked, TrackingConfig, track

__all__ = [
    "CONFIGS",
    "DINO",
    "PE",
    "PropagationConfig",
    "Tracked",
    "TrackingConfig",
    "propagate",
    "propagate_stream",
    "track",
]
