"""Detections in other programs' formats: COCO results, YOLO label files, Label Studio predictions, supervision.

What goes in is what the detectors return: boxes (N, 4) in pixels, scores (N,), labels (N,), maybe masks (N, 1, H, W).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from midsight.data import coco
from midsight.errors import InputError, MissingDependencyError
from midsight.files import StrPath, atomic_write
from midsight.tasks.detection.preprocess import Size

Found = Mapping[str, Tensor]


def to_coco(found: Found, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """COCO's result format, one entry a detection; masks as compressed RLE.

    Args:
        found: of one image.
        image_id: of the annotation file.
        category_ids: by label; None where labels are category ids, as the published DETA's.

    Raises:
        InputError: a label without a category id.
        MissingDependencyError: masks, and faster-coco-eval is not installed.
    """
    masks = found["masks"][:, 0] if "masks" in found else [None] * len(found["labels"])
    results = []
    for box, score, label, mask in zip(*_lists(found), masks, strict=True):
        x1, y1, x2, y2 = box
        category = label if category_ids is None else _of(category_ids, label, "category id")
        entry = {"image_id": image_id, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        results.append(entry if mask is None else entry | {"segmentation": encode_mask(mask)})
    return results


def write_coco(path: StrPath, results: Sequence[Mapping[str, Any]]) -> None:
    """A result file that COCO's evaluation servers and tools read.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(list(results), allow_nan=False).encode())


def encode_mask(mask: Tensor) -> dict[str, Any]:
    """A mask (H, W), bool or probabilities, as COCO's compressed RLE."""
    return coco.encode_mask((mask >= 0.5).cpu().numpy())


def to_yolo(found: Found, size: Size, scores: bool = False) -> list[str]:
    """Lines of a YOLO label file: class, centre x, centre y, width, height as parts of the picture.

    Args:
        size: (height, width) of the picture.
        scores: put the score behind, as YOLO's own predictions have it.
    """
    height, width = size
    lines = []
    for (x1, y1, x2, y2), score, label in zip(*_lists(found), strict=True):
        x1, x2 = (min(max(x, 0.0), width) / width for x in (x1, x2))
        y1, y2 = (min(max(y, 0.0), height) / height for y in (y1, y2))
        numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, *([score] if scores else [])]
        lines.append(" ".join([str(label), *(f"{number:.6f}" for number in numbers)]))
    return lines


def to_label_studio(
    found: Found,
    size: Size,
    names: Sequence[str],
    *,
    control: str = "label",
    image: str = "image",
    model_version: str = "midsight",
) -> dict[str, Any]:
    """A Label Studio prediction of rectangles, for the `predictions` of a task.

    Args:
        size: (height, width) of the picture.
        names: by label.
        control, image: names of the RectangleLabels and Image tags in the labelling setup.
    """
    height, width = size
    results = []
    for number, ((x1, y1, x2, y2), score, label) in enumerate(zip(*_lists(found), strict=True)):
        value = {"x": 100 * x1 / width, "y": 100 * y1 / height, "rotation": 0}
        value |= {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
        results.append(
            {
                "id": f"{model_version}-{number}",
                "type": "rectanglelabels",
                "from_name": control,
                "to_name": image,
                "original_width": width,
                "original_height": height,
                "value": value | {"rectanglelabels": [_of(names, label, "name")]},
                "score": score,
            }
        )
    best = max(found["scores"].tolist(), default=0.0)
    return {"model_version": model_version, "score": best, "result": results}


def to_supervision(found: Found, names: Sequence[str] | None = None) -> Any:
    """A `supervision.Detections`.

    Raises:
        MissingDependencyError: supervision is not installed; it is in none of midsight's extras.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingDependencyError("to_supervision needs the package supervision: pip install supervision") from error
    _, scores, labels = _lists(found)
    data: dict[str, Any] = (
        {} if names is None else {"class_name": np.array([_of(names, label, "name") for label in labels], dtype=str)}
    )
    return Detections(
        xyxy=found["boxes"].float().cpu().numpy().reshape(-1, 4),
        confidence=np.array(scores, dtype=np.float32),
        class_id=np.array(labels, dtype=int),
        mask=(found["masks"][:, 0] >= 0.5).cpu().numpy() if "masks" in found else None,
        data=data,
    )


def _lists(found: Found) -> tuple[list[list[float]], list[float], list[int]]:
    return found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist()


def _of(values: Sequence[Any], label: int, what: str) -> Any:
    if not 0 <= label < len(values):
        raise InputError(
            f"label {label} has no {what}: {len(values)} are given. Give one for each of the model's classes"
        )
    return values[label]
