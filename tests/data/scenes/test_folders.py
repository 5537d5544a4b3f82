"""Scenes as folders: what training reads there is what the renderer knew."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.coco import read_coco, read_masks
from midsight.data.depth import DepthFiles, open_depth
from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.folders import CLASSES, write_folders
from midsight.data.scenes.groups import GROUPS, NAMES, OBJECT, group_of
from midsight.data.segmentation import LabelConfig, open_segmentation
from midsight.data.shards import ShardWriter, json_bytes
from midsight.errors import InputError, MediaError
from midsight.files import atomic_write

SIDE = 32


def write_shard(folder: Path, with_labels: bool = True) -> Path:
    """One scene: sky above, ground below, a wall at the left, a chair, a cat, and a spoon of three pixels."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[10:20, 12:20], ids[24:30, 4:14], ids[2, 20:23] = 1, 2, 3
    depth = np.full((SIDE, SIDE), 4000, np.uint16)
    depth[:8, 8:] = 65535
    depth[ids > 0] = 2000
    normals = np.zeros((SIDE, SIDE, 3), np.int8)
    normals[..., 2] = -127
    normals[16:] = (0, 0, 127)  # up, for the camera that is rolled as below
    turned = np.eye(4)
    turned[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]  # the world's y is the camera's z
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, ids=ids, depth_mm=depth, normals=normals, intrinsics=np.eye(3), world_to_camera=turned,
        poses=np.zeros((3, 4, 4)),
    )  # fmt: skip
    pixels = io.BytesIO()
    Image.fromarray(np.stack([ids * 80] * 3, axis=-1)).save(pixels, "JPEG")
    objects = [{"id": k, "name": name} for k, name in enumerate(("armchair", "cat", "spoon"), start=1)]
    files = {"jpg": pixels.getvalue(), "json": json_bytes({"objects": objects})}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "scenes-000000.tar") as file, ShardWriter(file) as shard:
        shard.add("000000", files | ({"npz": arrays.getvalue()} if with_labels else {}))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    told: list[int] = []
    assert write_folders(write_shard(folder / "shards"), folder / "dense", "training", told.append) == 1
    assert told == [1]
    return folder / "dense"


def test_label_maps(root: Path) -> None:
    assert json.loads((root / "classes.json").read_text()) == list(CLASSES)
    _, labels = open_segmentation(root, "training", LabelConfig(len(CLASSES))).read(0)
    named = np.array(CLASSES)[labels]
    assert named[0, 0] == "wall"
    assert named[0, 30] == "sky"
    assert named[31, 31] == "ground"
    assert (named[10:20, 12:20] == "seat").all()
    assert (named[24:30, 4:14] == "animal").all()
    assert (named[2, 20:23] == "dish").all()


def test_depth(root: Path) -> None:
    _, metres = open_depth(root, "training", DepthFiles(farthest=20.0)).read(0)
    assert metres[12, 14] == pytest.approx(2.0)
    assert metres[31, 31] == pytest.approx(4.0)
    assert metres[0, 30] == 0  # the sky has none


def test_boxes_and_masks(root: Path) -> None:
    data = read_coco(root / "training.json", root)
    assert data.names == NAMES
    things = data.images[0].things
    assert [NAMES[thing.label] for thing in things] == ["seat"]  # 80 pixels; 60 and 3 are too few
    assert things[0].box == (12.0, 10.0, 20.0, 20.0)
    assert [thing.crowd for thing in data.images[0].objects] == [False, True, True]
    masks = read_masks(data.images[0])
    expected = np.zeros((SIDE, SIDE), bool)
    expected[10:20, 12:20] = True
    np.testing.assert_array_equal(masks[0], expected)


def test_what_is_no_scene(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no labels"):
        write_folders(write_shard(tmp_path / "bare", with_labels=False), tmp_path / "out", "training")
    with pytest.raises((InputError, MediaError), match="nowhere"):
        write_folders(tmp_path / "nowhere", tmp_path / "out", "training")


def test_groups_share_no_name() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    assert group_of("sofa") == "sofa"
    assert group_of("stool") == "seat"
    assert group_of("whatever else") == OBJECT


def test_groups_of_a_catalogue(models: list[FurnitureModel]) -> None:
    assert {m.name: group_of(m.name) for m in models} == {
        "chair": "seat", "table": "table", "basketball": "toy", "vase": "bottle", "wardrobe": "cabinet",
        "mailbox": "box",
    }  # fmt: skip
