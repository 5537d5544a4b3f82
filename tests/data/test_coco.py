"""COCO-format data: what is read, category gaps, masks of all kinds, and bad files told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midsight.data.coco import decode_mask, read_categories, read_coco, read_image, read_masks
from midsight.errors import InputError, MediaError


def content() -> dict[str, Any]:
    """Two pictures of 20 x 30 pixels; categories 3 and 90; polygon, RLE, crowd and a box without area."""
    counts = [20 * 4 + 5, 10] + [10, 10] * 3  # columns 4 to 7, rows 5 to 14
    counts.append(20 * 30 - sum(counts))
    rle, everything = {"size": [20, 30], "counts": counts}, {"size": [20, 30], "counts": [0, 600]}
    polygon = [[2, 3, 12, 3, 12, 11, 2, 11]]
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
            {"id": 9, "file_name": "sub/b.png", "height": 20, "width": 30},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 3, 10, 8], "segmentation": polygon},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [4, 5, 4, 10], "segmentation": rle},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 3,
                "bbox": [0, 0, 30, 20],
                "segmentation": everything,
                "iscrowd": 1,
            },
            {"id": 4, "image_id": 9, "category_id": 3, "bbox": [5, 5, 0, 10]},
            {"id": 5, "image_id": 9, "category_id": 3, "bbox": [25.5, -0.4, 5, 8]},
        ],
    }


def write(folder: Path, value: dict[str, Any]) -> Path:
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (30, 20)).save(folder / name)
    path = folder / "annotations.json"
    path.write_text(json.dumps(value))
    return path


def test_reading(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, content()), tmp_path)
    assert data.category_ids == (3, 90)
    assert data.names == ("car", "toothbrush")
    assert data.empty_boxes == 1
    first, second = data.images
    assert [thing.label for thing in first.objects] == [1, 0, 0]
    assert [thing.id for thing in first.things] == [1, 2]
    assert first.objects[0].box == (2, 3, 12, 11)
    assert second.objects[0].box == (25.5, 0, 30, 7.6)  # cut to the picture
    assert not data.has_masks
    assert data.images_of_class().tolist() == [2, 1]
    assert read_image(first).shape == (20, 30, 3)


def test_categories_alone(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    data = read_coco(path, tmp_path)
    assert read_categories(path) == dict(zip(data.category_ids, data.names, strict=True))
    with pytest.raises(InputError, match="lists no categories"):
        read_categories(write(tmp_path, content() | {"categories": []}))


def test_masks(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    data = read_coco(write(tmp_path, content()), tmp_path)
    found = read_masks(data.images[0])
    expected = np.zeros((2, 20, 30), np.bool_)
    expected[0, 3:11, 2:12] = True
    expected[1, 5:15, 4:8] = True
    assert (found == expected).all()
    from pycocotools import mask

    coded = mask.encode(np.asfortranarray(expected[0].astype(np.uint8)))
    coded["counts"] = coded["counts"].decode()
    assert (decode_mask(coded, 20, 30, "x") == expected[0]).all()
    for bad in ([[1, 2]], [["a"] * 6], {"size": [20, 30], "counts": "###"}, {"size": [20, 30], "counts": [1, 2]}, {}):
        with pytest.raises(InputError, match="annotation 1: its segmentation cannot be decoded"):
            decode_mask(bad, 20, 30, "annotation 1")


def change(**entry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["annotations"][1].update(entry)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(image_id=8), "annotation 2 is of image 8, which the file does not list"),
        (change(category_id=4), r"annotation 2 has the category 4; known are \[3, 90\]"),
        (change(bbox=[25, 5, 10, 5]), r"annotation 2 has the box \[25, 5, 10, 5\] outside its image of 30 x 20"),
        (change(bbox=[5, 5, -3, 5]), "a box of -3 x 5 pixels"),
        (change(bbox=[5, 5, 3]), r"the box \[5, 5, 3\], expected \[x, y, width, height\]"),
        (change(bbox=[5, 5, float("nan"), 4]), "expected .x, y, width, height"),
        (change(segmentation={"size": [30, 20], "counts": [600]}), r"size \[30, 20\], but its image has \[20, 30\]"),
        (lambda v: v["images"][1].update(file_name="c.png"), "image 9 is 'c.png', which is not in"),
        (lambda v: v["images"][1].update(file_name="../c.png"), "not a name inside"),
        (lambda v: v["images"][1].update(id=7), "images lists the id 7 twice"),
        (lambda v: v["images"][0].pop("height"), r"images\[0\] has no height"),
        (lambda v: v["annotations"][0].pop("bbox"), r"annotations\[0\] has no bbox"),
        (lambda v: v.pop("categories"), "categories missing"),
        (lambda v: v.update(categories=[]), "lists no categories"),
        (lambda v: v.update(images={}), "images is a dict, expected a list"),
    ],
)  # fmt: skip
def test_bad_files_are_told(edit: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    value = content()
    edit(value)
    path = write(tmp_path, value)
    with pytest.raises(InputError, match=message):
        read_coco(path, tmp_path)


def test_files_that_are_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_coco(tmp_path / "none.json", tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_coco(tmp_path / "a.json", tmp_path)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match="images, annotations, categories missing"):
        read_coco(tmp_path / "a.json", tmp_path)


def test_a_picture_of_another_size_is_told(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, content()), tmp_path)
    Image.new("RGB", (30, 21)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="30x21 pixels, but its entry in the annotations says 30x20"):
        read_image(data.images[0])
