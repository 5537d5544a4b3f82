"""Scenes as the folders that dense training reads: pictures, label maps, depth, and boxes in COCO's format.

images/SPLIT/KEY.jpg   masks/SPLIT/KEY.png   depth/SPLIT/KEY.png   SPLIT.json   classes.json
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.data.coco import encode_mask
from midsight.data.datasets import open_dataset
from midsight.data.samples import Sample
from midsight.data.scenes.groups import NAMES, group_of
from midsight.data.scenes.truth import boxes_xyxy
from midsight.data.scenes.write import DEPTH_LIMIT, DEPTH_STEP, read_labels
from midsight.data.stream import Order
from midsight.errors import InputError
from midsight.files import StrPath, atomic_write
from midsight.images.labels import write_depth, write_labels

SURROUNDINGS = ("wall", "ground", "sky")  # ceilings are walls
CLASSES = (*SURROUNDINGS, *NAMES)  # of the label maps
LEAST_PIXELS = 64  # of an object in COCO's file: what is smaller is a crowd, which is neither trained on nor judged
_LEVEL = 0.7  # cosine of a surface's normal with the vertical from which it is ground
_SKY = DEPTH_LIMIT - DEPTH_STEP / 2  # metres
_UP = np.array([0.0, 1.0, 0.0])  # in the world

Bytes = npt.NDArray[np.uint8]


@dataclass
class _Coco:
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        categories = [{"id": k, "name": name} for k, name in enumerate(NAMES, start=1)]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        with atomic_write(path) as file:
            file.write(json.dumps(content).encode())


def write_folders(source: StrPath, out: StrPath, split: str, progress: Callable[[int], None] | None = None) -> int:
    """Writes all pictures of shards of the scene engine as one split.

    Label maps hold `CLASSES`; depth is in millimetres, 0 where there is none (the sky); boxes and masks are those of
    what is seen of each object.

    Args:
        source: shards of pictures, as `build_scenes` writes them.
        out: the folder; other splits in it stay.
        split: "training" or "validation" for what `midsight train segment` and `depth` read.
        progress: called with the number of pictures written, after each.

    Returns:
        Pictures written.

    Raises:
        InputError: no scenes there, or clips in place of pictures.
        MissingDependencyError: faster-coco-eval is not installed.
        OutputError: a file cannot be written.
    """
    root, coco, done = Path(out), _Coco(), 0
    for name in ("images", "masks", "depth"):
        (root / name / split).mkdir(parents=True, exist_ok=True)
    for sample in open_dataset(source, needs_captions=False, labels=True).samples(
        Order(shuffle=False), epochs=1, workers=1
    ):
        _write(sample, root, split, coco)
        done += 1
        if progress is not None:
            progress(done)
    coco.write(root / f"{split}.json")
    with atomic_write(root / "classes.json") as file:
        file.write(json.dumps(CLASSES, indent=2).encode())
    return done


def label_map(arrays: dict[str, npt.NDArray[Any]], names: dict[int, str]) -> Bytes:
    """Index into `CLASSES` of each pixel, uint8 (S, S).

    Args:
        arrays: of `read_labels`, of a picture.
        names: of the objects, by id.
    """
    up = arrays["world_to_camera"][:3, :3] @ _UP
    found = np.full(arrays["ids"].shape, SURROUNDINGS.index("wall"), np.uint8)
    found[arrays["normals"] @ up > _LEVEL] = SURROUNDINGS.index("ground")
    found[arrays["depth"] >= _SKY] = SURROUNDINGS.index("sky")
    for number, name in names.items():
        found[arrays["ids"] == number] = CLASSES.index(group_of(name))
    return found


def _write(sample: Sample, root: Path, split: str, coco: _Coco) -> None:
    if sample.labels is None or not isinstance(sample.media, bytes):
        raise InputError(f"{sample.key}: has no labels; expected shards of the scene engine (midsight data scenes)")
    arrays = read_labels(sample.labels)
    if arrays["ids"].ndim != 2:
        raise InputError(f"{sample.key}: a clip; these folders are made of pictures")
    objects = sample.facts["objects"]
    name = f"{split}/{sample.key.rsplit(':', 1)[-1]}"  # without its shard: the engine's own keys differ
    with atomic_write(root / "images" / f"{name}.jpg") as file:
        file.write(sample.media)
    write_labels(root / "masks" / f"{name}.png", label_map(arrays, {o["id"]: o["name"] for o in objects}))
    metres = np.where(arrays["depth"] >= _SKY, 0, arrays["depth"])
    write_depth(root / "depth" / f"{name}.png", metres)
    image = len(coco.images) + 1
    height, width = arrays["ids"].shape
    coco.images.append({"id": image, "file_name": f"images/{name}.jpg", "height": height, "width": width})
    for one in objects:
        mask = arrays["ids"] == one["id"]
        if mask.any():
            coco.annotations.append(_annotation(len(coco.annotations) + 1, image, one, mask))


def _annotation(number: int, image: int, one: dict[str, Any], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    left, top, right, bottom = (float(edge) for edge in boxes_xyxy(mask.astype(np.uint8), 1)[0])
    area = int(mask.sum())
    return {
        "id": number, "image_id": image, "category_id": NAMES.index(group_of(one["name"])) + 1, "area": area,
        "bbox": [left, top, right - left, bottom - top], "segmentation": encode_mask(mask),
        "iscrowd": int(area < LEAST_PIXELS),
    }  # fmt: skip
