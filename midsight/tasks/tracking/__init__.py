"""Tracking without training: labels of a first frame, carried through a video."""

from midsight.tasks.tracking.predict import PropagationConfig, propagate, propagate_stream

__all__ = ["PropagationConfig", "propagate", "propagate_stream"]
