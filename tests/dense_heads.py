"""Random heads and detectors in folders, as training writes them."""

from pathlib import Path

import midsight
from midsight.api import dense_encoder
from midsight.tasks.depth import DepthRange
from midsight.tasks.heads import HeadConfig
from midsight.tasks.saved import SavedHead, Task, save_head
from tests import peers

NAMES = ("sky", "wall", "cup", "cat")  # of 5 classes
CATEGORIES = {2: "dog", 5: "cat", 8: "a toy", 9: "bird"}


def save(folder: Path, model: Path | str, task: Task, seed: int = 1) -> Path:
    """A head over the last block of a model."""
    encoder = dense_encoder(midsight.load(model, device="cpu"), [-1])
    depths = DepthRange(16, 0.1, 10.0) if task == "depth" else None
    head = HeadConfig(encoder.width, 16 if task == "depth" else 5)
    saved = SavedHead(task, head, encoder.describe(), 32, NAMES if task == "segmentation" else (), depths)
    return save_head(folder, saved, peers.randomize(saved.build(), seed).state_dict())


def save_detector(folder: Path) -> Path:
    """A Mask R-CNN on squares of 128 pixels."""
    from midsight.tasks.detection.saved import Categories, save_detector
    from tests.tasks.detection import small

    categories = Categories(tuple(CATEGORIES), tuple(CATEGORIES.values()))
    return save_detector(folder, small.mask_rcnn(0), categories)
