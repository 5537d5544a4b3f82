"""Detectors as one module: heads on an encoder, or a detector with a tower of its own. Needs torchvision."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from midsight.api.detector import classes_of
from midsight.configs import PEConfig, PreprocessConfig
from midsight.errors import ExportError, InputError
from midsight.export.boxes import UNUSED, picture_sizes
from midsight.export.card import Card, HeadCard, Port
from midsight.export.deta import DETAGraph
from midsight.export.encoder import Encoder
from midsight.export.mask_rcnn import MaskRCNNGraph
from midsight.export.towers import BATCH, Part
from midsight.files import content_hash
from midsight.pe import VisionTransformer
from midsight.tasks.detection import DETA, MaskRCNN
from midsight.tasks.detection.boxes import has_area
from midsight.tasks.detection.config import DETAConfig, MaskRCNNConfig
from midsight.tasks.detection.deta import ROOM
from midsight.tasks.detection.load import load_detector, locate
from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.preprocess import DETA_PIXELS, MASK_RCNN_PIXELS, Size
from midsight.tasks.detection.saved import SETTINGS
from midsight.tasks.saved import WEIGHTS, load_head

MASK_SIDE = 28  # cells
Row = dict[str, Tensor]  # of one picture: boxes, scores, labels, maybe masks


class _Map(nn.Module):
    """Images to the one map that heads of detection read."""

    def __init__(self, tower: VisionTransformer, layer: int, norm: bool) -> None:
        super().__init__()
        self.tower, self.layer, self.norm = tower, layer, norm

    def forward(self, images: Tensor) -> Tensor:
        return self.tower.forward_intermediates(images, [self.layer], as_maps=True, norm=self.norm)[0]


def refuse_other_sizes(name: str, side: int, image_size: int | None, dynamic: bool) -> None:
    """
    Raises:
        InputError: a size that is not the detector's.
    """
    if dynamic or image_size not in (None, side):
        asked = "free sizes were asked for (--dynamic)" if dynamic else f"{image_size} were asked for"
        raise InputError(
            f"{name}: its anchors and positions are those of squares of {side} pixels, but {asked}. Leave the option "
            "out: pictures of any shape are put into the square."
        )


def head_detector_part(folder: Path, encoder: Encoder) -> Part:
    """Heads of detection without a tower, and the encoder under them."""
    dense = encoder.dense
    heads, saved = load_head(folder, dense, "detection")
    assert isinstance(heads, MaskRCNNHeads)  # by its task
    card = HeadCard(
        name=folder.name,
        task="detection",
        kind="mask_rcnn",
        identity=content_hash(folder / WEIGHTS),
        layers=dense.layers,
        norm=dense.norm,
        classes=saved.names,
        category_ids=tuple(range(1, saved.outputs + 1)),
        fit="pad",
        longest=heads.config.image_size,
        score_threshold=heads.config.score_threshold,
    )
    module = MaskRCNNGraph(heads, _Map(dense.tower, dense.layers[0], dense.norm))
    preprocess = replace(encoder.preprocess, image_size=heads.config.image_size)
    about = _card(dense.name, dense.identity, dense.tower.config, preprocess, card, heads.config)
    return _part(about, module, lambda images, sizes: _found(heads, dense(images)[0], sizes), heads.config)


def detector_part(name: str | Path, checkpoint: str | Path | None, image_size: int | None, dynamic: bool) -> Part:
    """A detector with a tower of its own: published, or from a folder.

    Raises:
        InputError: a size that is not the detector's.
        ExportError: soft-NMS.
    """
    info, path = locate(name, checkpoint)
    config, soft = info.config, isinstance(info.config, DETAConfig) and info.config.soft_nms
    refuse_other_sizes(str(name), config.image_size, image_size, dynamic)
    if soft:
        raise ExportError(
            f"{name}: soft-NMS (soft_nms) takes one box after the other by what the last one did to the scores, which "
            f"no exporter can follow. Set soft_nms to false in {SETTINGS}: the file then suppresses by hard NMS."
        )
    detector = load_detector(name, path)
    labels, ids, names = classes_of(name, info)
    count = max(config.num_classes, 1 + max(labels))
    card = HeadCard(
        name=Path(name).name,
        task="detection",
        kind="deta" if isinstance(detector, DETA) else "mask_rcnn",
        identity=content_hash(path),
        classes=_by_label(labels, names, count, ""),
        category_ids=_by_label(labels, ids, count, UNUSED),
        fit="pad",
        longest=config.image_size - (ROOM if isinstance(detector, DETA) else 0),
        score_threshold=config.score_threshold if isinstance(config, MaskRCNNConfig) else None,
    )
    pixels = DETA_PIXELS if isinstance(detector, DETA) else MASK_RCNN_PIXELS
    mean, std = (cast(tuple[float, float, float], tuple(v / 255 for v in vs)) for vs in (pixels.mean, pixels.std))
    preprocess = PreprocessConfig(config.image_size, mean=mean, std=std)
    about = _card(card.name, card.identity, info.vision, preprocess, card, config)
    if isinstance(detector, MaskRCNN):
        rcnn = detector
        module = MaskRCNNGraph(rcnn, nn.Identity())
        return _part(about, module, lambda images, sizes: _found(rcnn, images, sizes), config)
    return _part(about, DETAGraph(detector), lambda images, sizes: _found_by_deta(detector, images, sizes), config)


def _by_label(labels: Sequence[int], values: Sequence[Any], count: int, empty: Any) -> tuple[Any, ...]:
    known = dict(zip(labels, values, strict=True))
    return tuple(known.get(label, empty) for label in range(count))


def _card(
    model: str,
    identity: str,
    vision: PEConfig,
    preprocess: PreprocessConfig,
    head: HeadCard,
    config: MaskRCNNConfig | DETAConfig,
) -> Card:
    side, rows = config.image_size, config.detections_per_image
    others = [Port("scores", "float32", ("batch", rows)), Port("labels", "int64", ("batch", rows))]
    if isinstance(config, MaskRCNNConfig):
        others.append(Port("masks", "float32", ("batch", rows, MASK_SIDE, MASK_SIDE)))
    return Card(
        model=model,
        identity=identity,
        tower="image",
        gives="detections",
        layer=None,
        patch_size=vision.patch_size,
        class_token=vision.use_cls_token,
        preprocess=preprocess,
        context_length=None,
        logit_scale=None,
        input=Port("images", "float32", ("batch", 3, side, side)),
        output=Port("boxes_xyxy", "float32", ("batch", rows, 4)),
        others=tuple(others),
        head=head,
    )


def _part(
    card: Card, module: nn.Module, find: Callable[[Tensor, list[Size]], list[Row]], config: MaskRCNNConfig | DETAConfig
) -> Part:
    def eager(images: Tensor) -> list[Tensor]:
        sizes = [(int(rows), int(columns)) for rows, columns in picture_sizes(images).tolist()]
        found = find(images, sizes)
        return [_stacked([row[port.name] for row in found], port) for port in card.outputs]

    example = torch.zeros(2, 3, config.image_size, config.image_size)
    return Part(card, module.eval(), example, {0: BATCH}, eager)


def _stacked(values: list[Tensor], port: Port) -> Tensor:
    """What was found in each picture, as a table of the port's shape."""
    rows = [int(size) for size in port.shape[1:]]
    whole = values[0].new_full((len(values), *rows), UNUSED if port.name == "labels" else 0)
    for row, value in zip(whole, values, strict=True):
        row[: len(value)] = value
    return whole


def _found(heads: MaskRCNNHeads, x: Tensor, sizes: list[Size]) -> list[Row]:
    rows = []
    for found, masks in heads.find(x, sizes):
        keep = has_area(found.boxes)
        row = {"boxes_xyxy": found.boxes, "scores": found.scores, "labels": found.labels, "masks": masks}
        rows.append({name: value[keep] for name, value in row.items()})
    return rows


def _found_by_deta(detector: DETA, images: Tensor, sizes: list[Size]) -> list[Row]:
    logits, boxes = detector.answer(images, sizes).layers[-1]
    found = [detector._detections(*part, soft=False) for part in zip(logits, boxes, sizes, strict=True)]
    return [{"boxes_xyxy": one.boxes, "scores": one.scores, "labels": one.labels} for one in found]
