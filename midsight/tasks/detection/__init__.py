"""The published PE detectors, in PyTorch and torchvision's operators alone."""

from midsight.tasks.detection.config import DETAConfig, MaskRCNNConfig
from midsight.tasks.detection.convert import convert_checkpoint
from midsight.tasks.detection.deta import DETA
from midsight.tasks.detection.load import DETECTORS, DetectorInfo, find_detector, load_detector
from midsight.tasks.detection.mask_rcnn import MaskRCNN
from midsight.tasks.detection.saved import Categories, read_settings, save_detector
from midsight.tasks.detection.windowed import WindowedBackbone

__all__ = [
    "Categories",
    "DETA",
    "DETAConfig",
    "DETECTORS",
    "DetectorInfo",
    "MaskRCNN",
    "MaskRCNNConfig",
    "WindowedBackbone",
    "convert_checkpoint",
    "find_detector",
    "load_detector",
    "read_settings",
    "save_detector",
]
