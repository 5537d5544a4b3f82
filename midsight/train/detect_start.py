"""The detector that a run begins with."""

from dataclasses import asdict
from typing import Any

from midsight.checkpoints import open_pretrained, read_tensors
from midsight.configs import PEConfig
from midsight.data.coco import CocoDataset
from midsight.errors import ConfigError
from midsight.pe.vision import override
from midsight.tasks.detection import DETA, DETAConfig, MaskRCNN, MaskRCNNConfig
from midsight.tasks.detection.config import as_config
from midsight.tasks.detection.load import locate
from midsight.tasks.detection.start import (
    detection_tower,
    global_blocks_of,
    load_other_classes,
    load_tower,
)
from midsight.train.detect_config import DetectModelConfig

DETA_TABLE = 24  # side of the position table in the published DETA


def build_detector(model: DetectModelConfig, data: CocoDataset) -> MaskRCNN | DETA:
    """A detector for the classes of a data set, with the start's weights as far as they fit.

    Raises:
        ConfigError: a start and a tower at once, or values that cannot be.
        CheckpointError, UnknownModelError: weights that cannot be had, or do not fit.
    """
    if model.start and model.tower:
        raise ConfigError("model.start and model.tower are both given; a detector's weights hold a tower already")
    classes = max(data.category_ids) + 1 if model.labels == "category_id" else len(data.names)
    if model.start:
        return _from_detector(model, classes)
    return _from_tower(model, classes)


def _from_detector(model: DetectModelConfig, classes: int) -> MaskRCNN | DETA:
    info, path = locate(model.start, model.checkpoint or None)
    vision = override(info.vision, dict(model.vision))
    settings = asdict(info.config) | _classes(model, classes, info.config.num_classes) | dict(model.detector)
    detector = _build("deta" if isinstance(info.config, DETAConfig) else "mask_rcnn", vision, settings)
    load_other_classes(detector, read_tensors(path))
    return detector


def _classes(model: DetectModelConfig, classes: int, known: int) -> dict[str, Any]:
    """The number of classes; a detector of category ids keeps its own where they all fit."""
    return {"num_classes": known if model.labels == "category_id" and classes <= known else classes}


def _from_tower(model: DetectModelConfig, classes: int) -> MaskRCNN | DETA:
    if not model.tower and not model.vision:
        raise ConfigError("the model has no size: name model.start, model.tower or all fields of model.vision")
    found = open_pretrained(model.tower) if model.tower else None
    grid = DETA_TABLE if model.kind == "deta" else None
    if found is None:
        vision = as_config(PEConfig, {"output_dim": None, "pool_type": "none", "use_ln_post": False} | model.vision)
        pretrained = vision.grid
    else:
        vision = override(detection_tower(found.vision, grid), dict(model.vision))
        pretrained = found.vision.grid
    given = {"num_classes": classes, "global_blocks": global_blocks_of(vision.layers), "window_size": vision.grid}
    detector = _build(model.kind, vision, given | {"rope_grid": pretrained} | model.detector)
    if found is not None:
        load_tower(detector.net if isinstance(detector, DETA) else detector.backbone.net, found.state_dict)
    return detector


def _build(kind: str, vision: PEConfig, settings: dict[str, Any]) -> MaskRCNN | DETA:
    if kind == "deta":
        return DETA(vision, as_config(DETAConfig, settings))
    return MaskRCNN(vision, as_config(MaskRCNNConfig, settings))
