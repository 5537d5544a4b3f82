"""Detections in other programs' formats, read back by those programs or by hand."""

import json
from pathlib import Path

import pytest
import torch

from midsight.data.coco import decode_mask
from midsight.errors import InputError
from midsight.tasks.detection import formats

MASKS = torch.zeros(2, 1, 40, 60, dtype=torch.bool)
MASKS[0, 0, 5:15, 10:30] = MASKS[1, 0, 20:40, 0:50] = True
FOUND = {
    "boxes": torch.tensor([[10.0, 5.0, 30.0, 15.0], [0.0, 20.0, 50.5, 41.0]]),
    "scores": torch.tensor([0.75, 0.5]),
    "labels": torch.tensor([1, 0]),
    "masks": MASKS,
}
NOTHING = {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0, dtype=torch.int64)}


def test_coco(tmp_path: Path) -> None:
    results = formats.to_coco(FOUND, image_id=7, category_ids=(3, 90))
    formats.write_coco(tmp_path / "results.json", results)
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert (first["image_id"], first["category_id"], first["score"]) == (7, 90, 0.75)
    assert first["bbox"] == [10, 5, 20, 10]
    assert second["category_id"] == 3
    for result, mask in zip((first, second), MASKS[:, 0], strict=True):
        assert torch.equal(torch.from_numpy(decode_mask(result["segmentation"], 40, 60, "x")), mask)
    plain = formats.to_coco({key: FOUND[key] for key in ("boxes", "scores", "labels")}, 7)
    assert [entry["category_id"] for entry in plain] == [1, 0]
    assert "segmentation" not in plain[0]
    assert formats.to_coco(NOTHING, 7) == []
    with pytest.raises(InputError, match="label 1 has no category id: 1 are given"):
        formats.to_coco(FOUND, 7, category_ids=(3,))


def test_yolo() -> None:
    lines = formats.to_yolo(FOUND, (40, 60))
    assert lines[0] == "1 0.333333 0.250000 0.333333 0.250000"
    label, x, y, w, h, score = formats.to_yolo(FOUND, (40, 60), scores=True)[1].split()
    assert (label, score) == ("0", "0.500000")
    assert float(y) + float(h) / 2 == pytest.approx(1.0)  # cut to the picture
    assert float(x) * 60 == pytest.approx(25.25, abs=1e-3)
    assert float(w) * 60 == pytest.approx(50.5, abs=1e-3)
    assert formats.to_yolo(NOTHING, (40, 60)) == []


def test_label_studio() -> None:
    found = formats.to_label_studio(FOUND, (40, 60), ("cat", "dog"))
    assert found["score"] == 0.75
    first = found["result"][0]
    assert first["value"]["rectanglelabels"] == ["dog"]
    assert first["value"]["x"] == pytest.approx(100 * 10 / 60)
    assert first["value"]["width"] == pytest.approx(100 * 20 / 60)
    assert first["value"]["height"] == pytest.approx(25)
    assert (first["original_width"], first["original_height"]) == (60, 40)
    json.dumps(found)
    assert formats.to_label_studio(NOTHING, (40, 60), ())["result"] == []
    with pytest.raises(InputError, match="label 1 has no name"):
        formats.to_label_studio(FOUND, (40, 60), ("cat",))


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    found = formats.to_supervision(FOUND, ("cat", "dog"))
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.tolist() == FOUND["boxes"].tolist()
    assert found.class_id.tolist() == [1, 0]
    assert found.confidence.tolist() == [0.75, 0.5]
    assert found.data["class_name"].tolist() == ["dog", "cat"]
    assert (found.mask == MASKS[:, 0].numpy()).all()
    assert len(found[found.confidence > 0.6]) == 1
    assert len(formats.to_supervision(NOTHING)) == 0
