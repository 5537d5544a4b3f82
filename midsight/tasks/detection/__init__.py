"""The published PE detectors, in PyTorch and torchvision's operators alone."""

from midsight.tasks.detection.convert import convert_checkpoint
from midsight.tasks.detection.windowed import WindowedBackbone

__all__ = ["WindowedBackbone", "convert_checkpoint"]
