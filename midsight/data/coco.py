"""Detection data in COCO's format: a folder of pictures and one JSON file of annotations.

The file's category ids may have gaps; models count classes from 0. `CocoDataset.category_ids` is the way back.

Source: cocodataset.org, "Data format".
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, MediaError, MissingDependencyError
from midsight.files import StrPath, safe_join
from midsight.images import Pixels, load_image

OVERHANG = 1.0  # pixels that a box may reach beyond its picture, as many of COCO's own do


@dataclass(frozen=True)
class CocoObject:
    """One annotation."""

    id: int
    box: tuple[float, float, float, float]  # x1, y1, x2, y2, pixels
    label: int  # counted from 0
    segmentation: Any  # polygons, or RLE as COCO writes it; None without
    crowd: bool


@dataclass(frozen=True)
class CocoImage:
    """One picture."""

    id: int
    path: Path
    height: int
    width: int
    objects: tuple[CocoObject, ...]

    @property
    def things(self) -> tuple[CocoObject, ...]:
        """The objects without crowds, which are not trained on."""
        return tuple(thing for thing in self.objects if not thing.crowd)


@dataclass(frozen=True)
class CocoDataset:
    """Pictures with their objects."""

    source: Path
    images: tuple[CocoImage, ...]
    category_ids: tuple[int, ...]  # by label, ascending
    names: tuple[str, ...]  # by label
    empty_boxes: int  # annotations without an area, which were left out

    @property
    def has_masks(self) -> bool:
        """Whether every object that is trained on has a segmentation."""
        return all(thing.segmentation is not None for image in self.images for thing in image.things)

    def images_of_class(self) -> npt.NDArray[np.int64]:
        """How many pictures show each class, (classes,)."""
        counts = np.zeros(len(self.names), np.int64)
        for image in self.images:
            counts[sorted({thing.label for thing in image.things})] += 1
        return counts


def read_coco(annotations: StrPath, images: StrPath) -> CocoDataset:
    """A data set, checked.

    Args:
        annotations: the JSON file.
        images: the folder that its `file_name`s are relative to.

    Raises:
        InputError: the file is no COCO annotation file; an annotation points at a picture or a category that the file
            does not list, or at a picture that is not in the folder; a box that is no box or lies outside its picture;
            a mask of another size than its picture. The message names the annotation.
    """
    source, folder = Path(annotations), Path(images)
    content = _read_json(source)
    categories = _categories(source, content)
    labels = {id_: label for label, id_ in enumerate(sorted(categories))}
    listed = {
        entry["id"]: entry for entry in _entries(source, content, "images", ("id", "file_name", "height", "width"))
    }
    objects: dict[int, list[CocoObject]] = defaultdict(list)
    empty = 0
    for entry in _entries(source, content, "annotations", ("id", "image_id", "category_id", "bbox")):
        where = f"{source}: annotation {entry['id']}"
        if entry["image_id"] not in listed:
            raise InputError(f"{where} is of image {entry['image_id']}, which the file does not list")
        if entry["category_id"] not in labels:
            raise InputError(f"{where} has the category {entry['category_id']}; known are {sorted(labels)[:20]}")
        found = _object(where, entry, listed[entry["image_id"]], labels[entry["category_id"]])
        empty += found is None
        if found is not None:
            objects[entry["image_id"]].append(found)
    pictures = tuple(_image(source, folder, entry, objects[id_]) for id_, entry in listed.items())
    names = tuple(categories[id_] for id_ in sorted(categories))
    return CocoDataset(source, pictures, tuple(sorted(categories)), names, empty)


def read_categories(annotations: StrPath) -> dict[int, str]:
    """Names by category id.

    Raises:
        InputError: the file is no COCO annotation file, or lists no categories.
    """
    source = Path(annotations)
    return _categories(source, _read_json(source))


def read_image(image: CocoImage) -> Pixels:
    """A picture's pixels, uint8 (H, W, 3).

    Raises:
        MediaError: it cannot be read, or has another size than its entry says.
    """
    pixels = load_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        raise MediaError(
            f"{image.path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, but its entry in the annotations says "
            f"{image.width}x{image.height}"
        )
    return pixels


def read_masks(image: CocoImage) -> npt.NDArray[np.bool_]:
    """Masks of the objects that are trained on, bool (N, H, W).

    Raises:
        InputError: a segmentation that cannot be decoded.
        MissingDependencyError: faster-coco-eval is not installed.
    """
    masks = np.zeros((len(image.things), image.height, image.width), np.bool_)
    for index, thing in enumerate(image.things):
        masks[index] = decode_mask(thing.segmentation, image.height, image.width, f"annotation {thing.id}")
    return masks


def decode_mask(segmentation: Any, height: int, width: int, name: str) -> npt.NDArray[np.bool_]:
    """Polygons or RLE to pixels, bool (height, width), by faster-coco-eval's twin of pycocotools."""
    try:
        from faster_coco_eval import mask as coco_mask
    except ImportError as error:
        raise MissingDependencyError("masks need faster-coco-eval: pip install 'midsight[dense]'") from error
    try:
        if isinstance(segmentation, list):
            if any(len(polygon) < 6 for polygon in segmentation):
                raise ValueError("a polygon of fewer than three points")
            coded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            coded = coco_mask.frPyObjects(segmentation, height, width)
        else:
            coded = segmentation
        return np.asarray(coco_mask.decode(coded), dtype=np.bool_)
    except Exception as error:  # whatever the C code makes of broken input
        raise InputError(f"{name}: its segmentation cannot be decoded ({error})") from error


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask, bool (H, W), as COCO's compressed RLE.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import mask as coco_mask
    except ImportError as error:
        raise MissingDependencyError("masks need faster-coco-eval: pip install 'midsight[dense]'") from error
    coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Expected COCO's JSON.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({str(error)[:100]})") from error
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise InputError(
            f"{path}: not COCO's format, {', '.join(missing)} missing; expected images, annotations, categories"
        )
    return content


def _entries(source: Path, content: Mapping[str, Any], key: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list of objects under a key, each with its fields."""
    entries = content[key]
    if not isinstance(entries, list):
        raise InputError(f"{source}: {key} is a {type(entries).__name__}, expected a list")
    seen: set[int] = set()
    for number, entry in enumerate(entries):
        absent = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if absent:
            raise InputError(f"{source}: {key}[{number}] has no {', '.join(absent)}")
        if entry["id"] in seen:
            raise InputError(f"{source}: {key} lists the id {entry['id']} twice")
        seen.add(entry["id"])
    return entries


def _categories(source: Path, content: Mapping[str, Any]) -> dict[int, str]:
    found = {entry["id"]: str(entry["name"]) for entry in _entries(source, content, "categories", ("id", "name"))}
    if not found:
        raise InputError(f"{source}: lists no categories")
    return found


def _image(source: Path, folder: Path, entry: dict[str, Any], objects: list[CocoObject]) -> CocoImage:
    path = safe_join(folder, str(entry["file_name"]))
    if not path.is_file():
        raise InputError(
            f"{source}: image {entry['id']} is {entry['file_name']!r}, which is not in {folder}. "
            "Name the folder that the file names are relative to"
        )
    return CocoImage(entry["id"], path, int(entry["height"]), int(entry["width"]), tuple(objects))


def _object(where: str, entry: dict[str, Any], image: dict[str, Any], label: int) -> CocoObject | None:
    """One annotation; None where its box has no area."""
    box = entry["bbox"]
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in box)
    ):
        raise InputError(f"{where} has the box {box!r}, expected [x, y, width, height]")
    x, y, wide, high = box
    width, height = image["width"], image["height"]
    if wide < 0 or high < 0:
        raise InputError(f"{where} has a box of {wide} x {high} pixels; COCO's boxes are [x, y, width, height]")
    if min(x, y) < -OVERHANG or x + wide > width + OVERHANG or y + high > height + OVERHANG:
        raise InputError(
            f"{where} has the box {box} outside its image of {width} x {height}; COCO's boxes are [x, y, width, height]"
        )
    if not wide or not high:
        return None
    segmentation = entry.get("segmentation") or None
    if isinstance(segmentation, dict) and list(segmentation.get("size", ())) != [height, width]:
        raise InputError(
            f"{where} has a mask of size {segmentation.get('size')}, but its image has [{height}, {width}]"
        )
    corners = max(0.0, x), max(0.0, y), min(float(width), x + wide), min(float(height), y + high)
    return CocoObject(entry["id"], corners, label, segmentation, bool(entry.get("iscrowd", 0)))
