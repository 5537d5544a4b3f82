"""Pictures with labels and depth: the published layouts, folders of one's own, and what is wrong with files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.depth import NYU_BORDER, DepthFiles, depth_folders, nyu, open_depth
from midsight.data.segmentation import LabelConfig, ade20k, mask_folders, open_segmentation
from midsight.errors import ConfigError, InputError, MediaError
from midsight.images.labels import write_depth, write_labels


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def labels(path: Path, values: object, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, np.broadcast_to(np.asarray(values, np.uint8), size))


def test_ade20k_as_published(tmp_path: Path) -> None:
    for split, count in (("training", 3), ("validation", 1)):
        for k in range(count):
            name = f"ADE_{split[:3]}_{k:08}"
            picture(tmp_path / "images" / split / f"{name}.jpg", k)
            labels(tmp_path / "annotations" / split / f"{name}.png", [[0] * 8 + [1] * 4 + [150] * 4])
    found = ade20k(tmp_path)
    assert (len(found), found.labels.classes) == (3, 150)
    assert len(ade20k(tmp_path, "validation")) == 1
    image, classes = found.read(0)
    assert image.shape == (12, 16, 3)
    assert classes[5].tolist() == [255] * 8 + [0] * 4 + [149] * 4
    assert [pair.key for pair in found.pairs] == sorted(pair.key for pair in found.pairs)
    labels(tmp_path / "annotations/training/ADE_tra_00000001.png", 151)
    with pytest.raises(InputError, match=r"ADE_tra_00000001\.png: holds the label 151.*1 to 150"):
        found.read(1)


def test_folders_of_pictures_and_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images/a/one.png")
    picture(tmp_path / "images/two.webp")
    labels(tmp_path / "masks/a/one.png", 2)
    labels(tmp_path / "masks/two.png", [[0] * 15 + [255]])
    found = mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(3))
    assert [pair.key for pair in found.pairs] == ["a/one", "two"]
    assert set(np.unique(found.read(0)[1])) == {2}
    assert found.read(1)[1][0].tolist() == [0] * 15 + [255]
    assert len(open_segmentation(tmp_path, "training", LabelConfig(3))) == 2
    with pytest.raises(InputError, match="no validation pictures"):
        open_segmentation(tmp_path, "validation", LabelConfig(3))
    with pytest.raises(InputError, match=r"one\.png: holds the label 2, but 2 classes are stored as 0 to 1"):
        mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(2)).read(0)


def test_partners_and_sizes(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / f"images/{k}.jpg")
    labels(tmp_path / "masks/0.png", 0)
    with pytest.raises(InputError, match=r"masks: no \.png for 1, 2, 3 and 2 more"):
        mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(3))
    for k in range(7):
        labels(tmp_path / f"masks/{k}.png", 0, (12, 17))
    with pytest.raises(InputError, match="images: no picture for 6"):
        mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(3))
    (tmp_path / "masks/6.png").unlink()
    found = mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(3))
    with pytest.raises(InputError, match=r"0\.png: 17x12 pixels, but .*0\.jpg has 16x12"):
        found.read(0)
    picture(tmp_path / "images/1.png")
    with pytest.raises(InputError, match=r"has the same name as 1\.(jpg|png)"):
        mask_folders(tmp_path / "images", tmp_path / "masks", LabelConfig(3))
    picture(tmp_path / "masks/1.png")
    with pytest.raises(MediaError, match=r"1\.png: a picture in colours"):
        found.read(1)
    with pytest.raises(InputError, match="nowhere"):
        mask_folders(tmp_path / "nowhere", tmp_path / "masks", LabelConfig(3))
    for wrong in (0, 256):
        with pytest.raises(ConfigError):
            LabelConfig(wrong)


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Two rooms in the layout of BTS."""
    for room in ("kitchen_0028b", "office"):
        picture(tmp_path / room / "rgb_00045.jpg", size=(480, 640))
        metres = np.full((480, 640), 2.345)
        metres[:, :100], metres[100:110] = 0, 12.5
        write_depth(tmp_path / room / "sync_depth_00045.png", metres)
    lines = [f"/{room}/rgb_00045.jpg /{room}/sync_depth_00045.png 518.8579" for room in ("office", "kitchen_0028b")]
    (tmp_path / "nyu_train.txt").write_text("\n".join([*lines, "/office/rgb_1.jpg None 518.8579", ""]))
    (tmp_path / "nyu_test.txt").write_text("office/rgb_00045.jpg office/sync_depth_00045.png\n")
    return tmp_path


def test_nyu_by_its_lists(rooms: Path) -> None:
    found = open_depth(rooms, "training", DepthFiles(crop=NYU_BORDER))
    assert [pair.key for pair in found.pairs] == ["office/rgb_00045.jpg", "kitchen_0028b/rgb_00045.jpg"]
    image, metres = found.read(0)
    assert image.shape == (427, 565, 3)
    assert metres.dtype == np.float32
    assert (metres[:, :57] == 0).all()
    assert (metres[55:65] == 0).all(), "beyond 10 m nothing is known"
    assert metres[200, 200] == pytest.approx(2.345)
    whole = open_depth(rooms, "validation", DepthFiles())
    assert len(whole) == 1
    assert whole.read(0)[1].shape == (480, 640)


def test_lists_that_lead_nowhere(rooms: Path) -> None:
    for line, message in (
        ("office/rgb_00045.jpg", "line 2 is 'office/rgb_00045.jpg'; expected"),
        ("gone/rgb.jpg gone/d.png 518", "line 2 names .*gone.rgb.jpg, which is not there"),
        ("../x.jpg office/sync_depth_00045.png 5", r"without '\.\.'"),
    ):
        (rooms / "bad.txt").write_text(f"\n{line}\n")
        with pytest.raises(InputError, match=message):
            nyu(rooms, "bad.txt")
    (rooms / "bad.txt").write_text("\n")
    with pytest.raises(InputError, match="names no picture"):
        nyu(rooms, "bad.txt")
    with pytest.raises(InputError, match=r"no\.txt: cannot be read"):
        nyu(rooms, "no.txt")


def test_folders_of_pictures_and_depth(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "depth").mkdir()
    write_depth(tmp_path / "depth/a.png", np.full((12, 16), 3.0), scale=256)
    found = open_depth(tmp_path, "training", DepthFiles(scale=256.0))
    assert found.read(0)[1][0, 0] == pytest.approx(3.0)
    with pytest.raises(InputError, match="smaller than the crop"):
        depth_folders(tmp_path / "images", tmp_path / "depth", DepthFiles(crop=NYU_BORDER)).read(0)
    write_depth(tmp_path / "depth/a.png", np.full((12, 15), 3.0))
    with pytest.raises(InputError, match="15x12 pixels"):
        found.read(0)
    with pytest.raises(InputError, match="no validation pictures with depth"):
        open_depth(tmp_path, "validation", DepthFiles())
    for wrong in ({"scale": 0.0}, {"farthest": 0.0}, {"crop": (5, 5, 0, 1)}):
        with pytest.raises(ConfigError):
            DepthFiles(**wrong)  # type: ignore[arg-type]
