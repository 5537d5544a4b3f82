"""What an export may be, and how well it must agree."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["onnx", "openvino", "pt2"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
MAX_PATCHES = 1024  # along one side, of exports with free sizes


@dataclass(frozen=True)
class ExportConfig:
    """How an export is held against the model that it was made of, and timed beside it."""

    min_cosine: float = 0.9999  # of each vector of an output
    max_relative_error: float = 1e-3  # of each vector, |found - expected| / |expected|; rounding gives about 1e-6
    min_same: float = 0.98  # of pixels with the same class, or of detections that are found again
    min_mask_cosine: float = 0.999  # of the masks of a detection, all their probabilities as one vector
    batches: tuple[int, ...] = (1, 7)
    rounds: int = 7  # of the timing, exported and eager in turn
    sample_seconds: float = 0.1  # a sample repeats its call until it has lasted this long
    budget_seconds: float = 60.0  # of one timing; large models then stop after fewer rounds, but not before three
