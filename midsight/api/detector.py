"""A detector by what a user says: published or trained, with the names of what it finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from midsight.api.dense import about, head_and_model, identity_of
from midsight.api.loading import Dtype, fixed_threads, pick_device
from midsight.api.opened import Opened, shipped
from midsight.data.coco import read_categories
from midsight.errors import InputError
from midsight.images import load_image
from midsight.tasks.saved import CONFIG
from midsight.threads import settle

if TYPE_CHECKING:
    from midsight.tasks.detection.load import DetectorInfo

Found = Mapping[str, Tensor]
LVIS = 1203  # classes; their ids are 1 to 1203


def open_detector(
    detector: str | Path | None = None,
    checkpoint: str | Path | None = None,
    *,
    threshold: float = 0.0,
    categories: str | Path | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    threads: int | None = None,
) -> Opened[dict[str, Tensor]]:
    """Detection: a picture to boxes (N, 4) within it, scores (N,), labels (N,), maybe masks (N, 1, H, W), on the CPU.

    Args:
        detector: a published name, or the folder of a trained one; None: the one that comes with the package.
        checkpoint: weights in place of the published ones or the folder's.
        threshold: least score.
        categories: annotation file in COCO's format that says what the labels mean, where the detector does not: LVIS's
            names are not part of the package.
        device, dtype, threads: as `midsight.load`.

    Returns:
        Labels are places in `names` and `category_ids`, also where the detector itself gives category ids.

    Raises:
        InputError: no detector is given and none comes with the package; a threshold outside 0 to 1; categories that
            are not those of the detector.
        UnknownModelError, CheckpointError: as `load_detector`.
        MissingDependencyError: torchvision is not installed.
    """
    from midsight.tasks.detection.load import load_detector, locate

    if not 0 <= threshold <= 1:
        raise InputError(f"threshold must be from 0 to 1, got {threshold:g}")
    name = shipped("detect", "--detector with a published name or a folder") if detector is None else detector
    if (Path(name) / CONFIG).is_file():
        return _open_heads(Path(name), threshold, device, dtype, threads)
    info, path = locate(name, checkpoint)
    labels, ids, names = classes_of(name, info, categories)
    own = {"score_threshold": threshold} if hasattr(info.config, "score_threshold") else {}
    where, fixed = pick_device(device), fixed_threads(threads)
    net = load_detector(name, path, settings=own, device=where)
    if dtype == "bf16":
        net = net.bfloat16()
    place = torch.full((max(info.config.num_classes, 1 + max(labels)),), -1)
    place[list(labels)] = torch.arange(len(labels))

    def predict(source: object) -> dict[str, Tensor]:
        picture = load_image(source)
        if where.type == "cpu":
            settle(fixed)
        return _cleaned(net([picture])[0], threshold, place, (picture.shape[0], picture.shape[1]))

    state = path.stat()
    identity = f"{Path(name).name} {path.name} {state.st_size} {state.st_mtime_ns}"  # a hash of 7 GB takes too long
    return Opened(predict, f"the detector {name}", identity, names, ids)


def _open_heads(
    folder: Path, threshold: float, device: str, dtype: Dtype, threads: int | None
) -> Opened[dict[str, Tensor]]:
    """Heads without a tower, over the encoder that they name."""
    from midsight.api.perceive import load_head_detector

    _, loaded = head_and_model(folder, None, "detect", device, dtype, None, threads)
    detector, saved = load_head_detector(folder, loaded)
    place = torch.arange(saved.outputs)

    def predict(source: object) -> dict[str, Tensor]:
        picture = load_image(source)
        return _cleaned(detector([picture])[0], threshold, place, (picture.shape[0], picture.shape[1]))

    ids = tuple(range(1, saved.outputs + 1))
    return Opened(predict, about(folder, loaded), identity_of(detector.encoder, folder), saved.names, ids)


def classes_of(
    name: str | Path, info: "DetectorInfo", categories: str | Path | None = None
) -> tuple[Sequence[int], tuple[int, ...], tuple[str, ...]]:
    """What a detector finds: its own label, the category id and the name of each class.

    Raises:
        InputError: the file of categories is not of this detector.
    """
    from midsight.tasks.detection.saved import SETTINGS, read_settings

    count = info.config.num_classes
    if categories is not None:
        return _given(read_categories(categories), count, Path(categories))
    if (Path(name) / SETTINGS).is_file():
        known = read_settings(name).categories
        names = tuple(known.names[k] if k < len(known.names) else f"class {k}" for k in range(count))
        return range(count), known.ids if len(known.ids) == count else tuple(range(count)), names
    if count == LVIS:
        return range(count), tuple(range(1, count + 1)), tuple(f"class {k + 1}" for k in range(count))
    return _given(coco_names(), count, Path("COCO"))


def coco_names() -> dict[int, str]:
    """COCO's 80 categories by id; ids have gaps."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    listed = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {id_: name for id_, name in enumerate(listed) if name not in ("__background__", "N/A")}


def _given(
    names: Mapping[int, str], count: int, source: Path
) -> tuple[Sequence[int], tuple[int, ...], tuple[str, ...]]:
    ids = tuple(sorted(names))
    if len(ids) != count and ids[-1] >= count:
        raise InputError(f"{source}: {len(ids)} categories, but the detector has {count} classes. Give its own file.")
    labels = range(count) if len(ids) == count else ids  # DETA's labels are category ids, and some are not used
    return labels, ids, tuple(names[id_] for id_ in ids)


def _cleaned(found: Found, threshold: float, place: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Detections on the CPU: good enough, of known classes, and within the picture."""
    from midsight.tasks.detection.boxes import clip, has_area

    moved = {key: value.float().cpu() if value.is_floating_point() else value.cpu() for key, value in found.items()}
    boxes, labels = clip(moved["boxes"], size), place[moved["labels"]]
    keep = (moved["scores"] >= threshold) & (labels >= 0) & has_area(boxes)
    return {key: value[keep] for key, value in (moved | {"boxes": boxes, "labels": labels}).items()}
