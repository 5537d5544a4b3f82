"""Detections of a job in other programs' formats, read back by those programs' own code where it is at hand."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO
from PIL import Image

from midsight.api import Opened, open_detector
from midsight.data.coco import read_coco, read_masks
from midsight.errors import InputError
from midsight.images import load_image
from midsight.library.dense.detect import DetectResults
from midsight.library.dense.exports import read_detections
from midsight.library.dense.job import DenseJob
from midsight.tasks.detection.formats import to_supervision
from midsight.tasks.draw import draw_detections
from tests import dense_heads
from tests.tasks.detection import small

MEDIA = Path(__file__).parents[2] / "media"
NAMES = tuple(dense_heads.CATEGORIES.values())


@pytest.fixture(scope="module")
def opened(detector_folder: Path) -> Opened[Any]:
    return open_detector(detector_folder, threshold=0.5, device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, one in a folder, and a short video."""
    folder = tmp_path_factory.mktemp("detect") / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, picture in zip(("a.png", "sub/b.jpg"), small.PICTURES, strict=False):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / name)
    shutil.copy(MEDIA / "b_frames.mp4", folder / "clip.mp4")
    return folder


def run(inputs: list[Path], out: Path, opened: Opened[Any], **options: Any) -> None:
    results = DetectResults(out, opened, **options)
    with DenseJob(list(map(str, inputs)), opened, results, every=20) as job:
        for outcome in job.run():
            outcome.unwrap()
        job.finish()


@pytest.fixture(scope="module")
def out(photos: Path, opened: Opened[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all three, in all formats."""
    folder = tmp_path_factory.mktemp("detect") / "out"
    run([photos], folder, opened, formats=("coco", "yolo", "label-studio"))
    return folder


def test_cocos_own_reader_reads_it(out: Path, photos: Path, opened: Opened[Any]) -> None:
    coco = COCO(str(out / "detections.json"))
    assert {k: v["name"] for k, v in coco.cats.items()} == dense_heads.CATEGORIES
    images = list(coco.imgs.values())
    assert [image["file_name"] for image in images] == [
        "a.png", "images/clip/000000.jpg", "images/clip/000020.jpg", "images/clip/000040.jpg", "sub/b.jpg",
    ]  # fmt: skip
    assert (images[0]["width"], images[0]["height"], images[0]["path"]) == (128, 90, str(photos / "a.png"))
    assert {key: images[2][key] for key in ("video", "frame", "time")} == {
        "video": "clip.mp4",
        "frame": 20,
        "time": 0.8,
    }
    for image, path in ((images[0], photos / "a.png"), (images[4], photos / "sub/b.jpg")):
        found = opened.predict(path)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(found["labels"]) > 0
        for number, annotation in enumerate(annotations):
            x, y, width, height = annotation["bbox"]
            np.testing.assert_allclose([x, y, x + width, y + height], found["boxes"][number].numpy(), atol=2e-3)
            assert annotation["score"] == pytest.approx(float(found["scores"][number]), abs=1e-6)
            assert annotation["category_id"] == opened.category_ids[int(found["labels"][number])]
            np.testing.assert_array_equal(coco.annToMask(annotation), found["masks"][number, 0].numpy())
            assert annotation["area"] == int(found["masks"][number].sum())


def test_it_is_a_data_set_to_train_on(photos: Path, opened: Opened[Any], tmp_path: Path) -> None:
    run([photos / "a.png"], tmp_path / "out", opened)
    data = read_coco(tmp_path / "out/detections.json", photos)
    found = opened.predict(photos / "a.png")
    assert data.names == NAMES
    masks = found["masks"][:, 0][found["masks"].flatten(1).any(dim=1)]
    np.testing.assert_array_equal(read_masks(data.images[0])[: len(masks)], masks.numpy())


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_reads_yolos_files(out: Path, opened: Opened[Any], photos: Path) -> None:
    supervision = pytest.importorskip("supervision")
    flat = out.parent / "flat"  # its reader knows no folders below
    for kind, suffixes in (("images", (".png", ".jpg")), ("labels", (".txt",))):
        (flat / kind).mkdir(parents=True)
        for path in (out / kind).rglob("*"):
            if path.suffix in suffixes:
                shutil.copy(path, flat / kind / "-".join(path.relative_to(out / kind).parts))
    data = supervision.DetectionDataset.from_yolo(str(flat / "images"), str(flat / "labels"), str(out / "data.yaml"))
    assert tuple(data.classes) == NAMES
    assert len(data) == 5
    for path, _, detections in data:
        if Path(path).name != "a.png":
            continue
        found = opened.predict(photos / "a.png")
        np.testing.assert_allclose(detections.xyxy, found["boxes"].numpy(), atol=1e-3)
        np.testing.assert_array_equal(detections.class_id, found["labels"].numpy())
        break
    else:
        raise AssertionError("a.png is not in the data set")


def test_pictures_lie_beside_yolos_labels(out: Path, photos: Path) -> None:
    labels = {path.relative_to(out / "labels").with_suffix("") for path in (out / "labels").rglob("*.txt")}
    images = {path.relative_to(out / "images").with_suffix("") for path in (out / "images").rglob("*.*g")}
    assert labels == images
    assert (out / "images/sub/b.jpg").samefile(photos / "sub/b.jpg")
    assert load_image(out / "images/clip/000020.jpg").shape == (120, 160, 3)


def test_label_studio_finds_pictures_and_labels(out: Path, photos: Path, opened: Opened[Any]) -> None:
    tasks = json.loads((out / "label_studio.json").read_text())
    setup = ET.parse(out / "label_studio.xml").getroot()
    choices, image = setup.find("RectangleLabels"), setup.find("Image")
    assert [label.get("value") for label in choices] == list(NAMES)
    assert image.get("value") == "$image"
    assert len(tasks) == 5
    for task in tasks:
        prefix, _, path = task["data"]["image"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert load_image("/" + unquote(path)).size
        for result in task["predictions"][0]["result"]:
            assert (result["from_name"], result["to_name"]) == (choices.get("name"), image.get("name"))
            assert set(result["value"]["rectanglelabels"]) <= set(NAMES)
    first = tasks[0]["predictions"][0]["result"]
    found = opened.predict(photos / "a.png")
    assert len(first) == len(found["labels"])
    value = first[0]["value"]
    np.testing.assert_allclose(
        [value["x"] * 1.28, value["y"] * 0.9, value["width"] * 1.28],
        [found["boxes"][0, 0], found["boxes"][0, 1], found["boxes"][0, 2] - found["boxes"][0, 0]],
        atol=5e-3,
    )


def test_overlays_show_what_was_found(out: Path, photos: Path, opened: Opened[Any]) -> None:
    expected = draw_detections(load_image(photos / "a.png"), opened.predict(photos / "a.png"), NAMES)
    np.testing.assert_array_equal(load_image(out / "overlays/a.png"), expected)


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_detections_come_back_as_tensors_and_for_supervision(out: Path, photos: Path, opened: Opened[Any]) -> None:
    entries = list(read_detections(out / "detections.json"))
    assert [image["file_name"] for image, _ in entries][0] == "a.png"
    expected = opened.predict(photos / "a.png")
    found = entries[0][1]
    torch.testing.assert_close(found["boxes"], expected["boxes"], atol=2e-3, rtol=0)
    torch.testing.assert_close(found["labels"], expected["labels"])
    torch.testing.assert_close(found["masks"], expected["masks"])
    detections = to_supervision(found, NAMES)
    assert len(detections) == len(expected["labels"])
    assert detections.data["class_name"][0] in NAMES
    with pytest.raises(InputError, match="is no file of detections"):
        next(read_detections(photos / "a.png"))
    with pytest.raises(InputError, match="cannot be read"):
        next(read_detections(photos / "no.json"))


def test_a_resumed_job_gives_the_same_files(photos: Path, out: Path, opened: Opened[Any], tmp_path: Path) -> None:
    """Other inputs, other formats and another order one after the other end in what one run gives."""
    again = tmp_path / "out"
    run([photos / "sub"], again, opened)
    assert len(json.loads((again / "detections.json").read_text())["images"]) == 1
    shutil.rmtree(again)
    run([photos / "clip.mp4"], again, opened)
    run([photos], again, opened)
    run([photos], again, opened, formats=("label-studio", "yolo"))
    for name in ("detections.json", "labels/sub/b.txt", "label_studio.xml"):
        assert (again / name).read_text() == (out / name).read_text(), name
    assert (
        json.loads((again / "label_studio.json").read_text())[0]
        == json.loads((out / "label_studio.json").read_text())[0]
    )


def test_nothing_found_is_a_result(photos: Path, detector_folder: Path, tmp_path: Path) -> None:
    strict = open_detector(detector_folder, threshold=1.0, device="cpu")
    run([photos / "a.png"], tmp_path / "out", strict, formats=("yolo", "label-studio"))
    assert (tmp_path / "out/labels/a.txt").read_text() == ""
    content = json.loads((tmp_path / "out/detections.json").read_text())
    assert (len(content["images"]), content["annotations"]) == (1, [])
    (entry,) = read_detections(tmp_path / "out/detections.json")
    assert entry[1]["boxes"].shape == (0, 4)


def test_boxes_without_masks_have_the_area_of_the_box(photos: Path, tmp_path: Path) -> None:
    def predict(picture: np.ndarray) -> dict[str, torch.Tensor]:
        return {
            "boxes": torch.tensor([[1.0, 2, 11, 22]]),
            "scores": torch.tensor([0.5]),
            "labels": torch.tensor([0]),
        }

    run([photos / "a.png"], tmp_path / "out", Opened(predict, "a test", "1", ('a "thing" & <b>',), (7,)),
        formats=("yolo", "label-studio"))  # fmt: skip
    content = json.loads((tmp_path / "out/detections.json").read_text())
    assert content["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5, "area": 200.0,
         "iscrowd": 0}
    ]  # fmt: skip
    setup = ET.parse(tmp_path / "out/label_studio.xml").getroot()
    assert setup.find("RectangleLabels/Label").get("value") == 'a "thing" & <b>'
    assert (tmp_path / "out/labels/a.txt").read_text() == "0 0.046875 0.133333 0.078125 0.222222\n"


def test_an_unknown_format_is_told(opened: Opened[Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no format 'voc'; known are coco, yolo, label-studio"):
        DetectResults(tmp_path, opened, formats=("coco", "voc"))
