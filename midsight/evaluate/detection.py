"""A detector's average precision on a data set in COCO's format."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from midsight.data.coco import CocoDataset, read_image
from midsight.evaluate.coco import Engine, coco_metrics
from midsight.tasks.detection import DETA, MaskRCNN
from midsight.tasks.detection.formats import to_coco


def detect_all(
    detector: MaskRCNN | DETA, data: CocoDataset, category_ids: Sequence[int] | None, batch_size: int = 1
) -> Iterator[dict[str, Any]]:
    """COCO results of every picture, one by one.

    Args:
        detector: in evaluation mode.
        category_ids: by label; None where labels are category ids.

    Raises:
        MediaError: a picture cannot be read, or is of another size than the data set says.
    """
    pictures = iter(data.images)
    while batch := list(islice(pictures, batch_size)):
        found = detector([read_image(picture) for picture in batch])
        for picture, one in zip(batch, found, strict=True):
            yield from to_coco(one, picture.id, category_ids)


def evaluate_detector(
    detector: MaskRCNN | DETA,
    data: CocoDataset,
    category_ids: Sequence[int] | None,
    *,
    batch_size: int = 1,
    engine: Engine = "faster",
    federated: bool = False,
) -> Iterator[tuple[str, float]]:
    """COCO's figures (LVIS's where `federated`) of boxes, and of masks where detector and data have them.

    Yields:
        ("box AP", share), ("box AP50", ...), ..., ("mask AP", ...), ...
    """
    results = list(detect_all(detector, data, category_ids, batch_size))
    kinds: list[tuple[str, Any]] = [("box", "bbox")]
    if isinstance(detector, MaskRCNN) and data.has_masks:
        kinds.append(("mask", "segm"))
    for name, kind in kinds:
        for metric, value in coco_metrics(data.source, results, kind, engine=engine, federated=federated).items():
            yield f"{name} {metric}", value
