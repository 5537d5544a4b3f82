"""The five published detectors by name, and any detector from a file.

Sources: the published README of `apps/detection`; PE paper, tables 14 and 15.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from midsight.checkpoints import read_tensors, resolve
from midsight.checkpoints.reader import named
from midsight.configs import MODELS, PEConfig
from midsight.errors import CheckpointError, UnknownModelError
from midsight.tasks.detection.config import DETAConfig, MaskRCNNConfig, as_config
from midsight.tasks.detection.deta import DETA
from midsight.tasks.detection.mask_rcnn import MaskRCNN
from midsight.tasks.detection.saved import SETTINGS, WEIGHTS, read_settings

REPOSITORY = "facebook/PE-Detection"


@dataclass(frozen=True)
class DetectorInfo:
    """One published detector."""

    vision: PEConfig
    config: MaskRCNNConfig | DETAConfig
    figures: tuple[tuple[str, float], ...] = ()  # (what, AP in percent), as printed

    def changed(self, settings: Mapping[str, Any]) -> "DetectorInfo":
        """The same with some fields of its configuration replaced."""
        values = asdict(self.config) | dict(settings)
        if isinstance(self.config, DETAConfig):
            return replace(self, config=as_config(DETAConfig, values))
        return replace(self, config=as_config(MaskRCNNConfig, values))

    def build(self) -> MaskRCNN | DETA:
        """The detector with random weights."""
        if isinstance(self.config, DETAConfig):
            return DETA(self.vision, self.config)
        return MaskRCNN(self.vision, self.config)


def _tower(family: str, image_size: int) -> PEConfig:
    """PE-core-G or PE-spatial-G as the detectors have it: patches of 16 pixels, features only, `image_size` / 16 rows
    in the position table."""
    tower = MODELS[f"PE-{family}-G14-448"].vision
    return replace(
        tower, patch_size=16, image_size=image_size, output_dim=None, pool_type="none", use_ln_post=False
    )  # fmt: skip


_LVIS = MaskRCNNConfig(num_classes=1203, score_function="sigmoid", score_threshold=0.02, detections_per_image=300)

DETECTORS: dict[str, DetectorInfo] = {
    "mask_rcnn_PEcore_G_coco75ep": DetectorInfo(
        _tower("Core", 512), MaskRCNNConfig(), (("COCO box AP", 57.0), ("COCO mask AP", 49.8))
    ),
    "mask_rcnn_PEspatial_G_coco36ep": DetectorInfo(
        _tower("Spatial", 512), MaskRCNNConfig(), (("COCO box AP", 57.8), ("COCO mask AP", 50.3))
    ),
    "mask_rcnn_PEcore_G_lvis75ep": DetectorInfo(
        _tower("Core", 512), _LVIS, (("LVIS box AP", 51.9), ("LVIS mask AP", 47.9))
    ),
    "mask_rcnn_PEspatial_G_lvis75ep": DetectorInfo(
        _tower("Spatial", 512), _LVIS, (("LVIS box AP", 54.2), ("LVIS mask AP", 49.3))
    ),
    "deta_coco_1824pix": DetectorInfo(_tower("Spatial", 384), DETAConfig(), (("COCO box AP", 65.2),)),
}


def find_detector(name: str) -> DetectorInfo:
    """The published detector of that name.

    Raises:
        UnknownModelError: no such name; the nearest ones are told.
    """
    if name in DETECTORS:
        return DETECTORS[name]
    nearest = difflib.get_close_matches(name, DETECTORS, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"published are {', '.join(DETECTORS)}"
    raise UnknownModelError(f"there is no detector named {name!r}; {hint}")


def _name_of(info: DetectorInfo) -> str:
    for name, known in DETECTORS.items():
        if known == info:
            return name
    raise CheckpointError("a detector of one's own has no published weights: give checkpoint_path")


def load_detector(
    name: str | Path | DetectorInfo,
    checkpoint_path: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> MaskRCNN | DETA:
    """A detector with its weights, ready for inference.

    Args:
        name: a published name, a folder that `save_detector` wrote, or the sizes of a detector of one's own.
        checkpoint_path: file, or `hf://repository:file`; None: the folder's weights, or the published file, from the
            Hugging Face cache or its repository. Layouts: a bare state dict, `{"model": ...}` of fvcore,
            `{"model", "args", ...}` of DETA.
        settings: fields of the detector's configuration to replace, such as `{"score_threshold": 0.5}`, or
            `{"num_queries": 2000}` for DETA.

    Raises:
        UnknownModelError: no such name.
        ConfigError: a setting that does not exist, or cannot be.
        CheckpointError: a file that is missing, cut, foreign, hostile or of another configuration.
    """
    info, path = locate(name, checkpoint_path)
    with torch.device("meta"):
        detector = info.changed(settings or {}).build()
    with named(path):
        detector.load_published(read_tensors(path))
    return detector.to(device).eval()


def locate(name: str | Path | DetectorInfo, checkpoint_path: str | Path | None = None) -> tuple[DetectorInfo, Path]:
    """A detector's sizes and the file of its weights, downloaded if it must be; arguments as `load_detector`."""
    if isinstance(name, str | Path) and (Path(name) / SETTINGS).is_file():
        found = read_settings(name)
        return DetectorInfo(found.vision, found.config), resolve(checkpoint_path or Path(name) / WEIGHTS).path
    info = name if isinstance(name, DetectorInfo) else find_detector(str(name))
    return info, resolve(checkpoint_path or f"hf://{REPOSITORY}:{_name_of(info)}.pth").path
