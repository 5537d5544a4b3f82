"""Average precision: by hand in a small case, and both engines on a large one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midsight.errors import InputError
from midsight.evaluate.coco import METRICS, coco_interval, coco_metrics

pytest.importorskip("faster_coco_eval")


def square(x: float, y: float, side: float) -> dict[str, Any]:
    polygon = [[x, y, x + side, y, x + side, y + side, x, y + side]]
    return {"bbox": [x, y, side, side], "segmentation": polygon, "area": side * side, "iscrowd": 0}


def write(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], classes: int = 3) -> Path:
    frequencies = "rcf"
    value = {
        "images": [{"height": 200, "width": 300, "file_name": f"{i['id']}.png"} | i for i in images],
        "annotations": [{"id": n} | a for n, a in enumerate(annotations, start=1)],
        "categories": [{"id": c, "name": str(c), "frequency": frequencies[c % 3]} for c in range(classes)],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(value))
    return path


def result(image: int, category: int, score: float, x: float, y: float, side: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "score": score} | {"bbox": [x, y, side, side]}


def test_a_case_by_hand(tmp_path: Path) -> None:
    """Two objects; the best detection is right, the second wrong, the third right: precision 1, then 2/3."""
    truth = [
        {"image_id": 1, "category_id": 0} | square(10, 10, 40),
        {"image_id": 1, "category_id": 0} | square(90, 90, 40),
    ]
    path = write(tmp_path, [{"id": 1}], truth)
    results = [result(1, 0, 0.9, 10, 10, 40), result(1, 0, 0.8, 200, 10, 40), result(1, 0, 0.7, 90, 90, 40)]
    for engine in ("faster", "pycocotools"):
        found = coco_metrics(path, results, engine=engine)  # type: ignore[arg-type]
        points = [1.0 if recall <= 0.5 else 2 / 3 for recall in np.linspace(0, 1, 101)]
        assert found["AP50"] == pytest.approx(np.mean(points), abs=1e-6)
        assert found["AP"] == pytest.approx(np.mean(points), abs=1e-6)
        assert (found["AR1"], found["AR100"]) == (0.5, 1.0)
        assert math.isnan(found["APs"])
        assert found["APm"] == pytest.approx(np.mean(points), abs=1e-6)
    assert len(results[0]) == 4  # what was given is left as it was


def crowd_of_results(seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    dice = np.random.default_rng(seed)
    images, truth, results = [{"id": n} for n in range(12)], [], []
    for image in range(12):
        for _ in range(dice.integers(0, 9)):
            x, y, side, category = (
                dice.uniform(0, 190),
                dice.uniform(0, 90),
                dice.uniform(5, 100),
                int(dice.integers(3)),
            )
            truth.append({"image_id": image, "category_id": category} | square(x, y, side))
            for _ in range(dice.integers(0, 4)):
                moved = [v + dice.normal() * side * 0.08 for v in (x, y, side)]
                guess = category if dice.random() < 0.8 else int(dice.integers(3))
                results.append(result(image, guess, float(dice.random()), *moved))
    for entry in results:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return images, truth, results


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_both_engines_agree(kind: Any, tmp_path: Path) -> None:
    images, truth, results = crowd_of_results()
    path = write(tmp_path, images, truth)
    if kind == "segm":
        from pycocotools import mask

        for entry in results:
            coded = mask.merge(mask.frPyObjects(entry.pop("segmentation"), 200, 300))
            entry["segmentation"] = {"size": coded["size"], "counts": coded["counts"].decode()}
    else:
        for entry in results:
            del entry["segmentation"]
    one, two = (coco_metrics(path, results, kind, engine=engine) for engine in ("faster", "pycocotools"))  # type: ignore[arg-type]
    assert list(one) == list(METRICS)
    assert 0.1 < one["AP"] < 0.9
    assert one == pytest.approx(two, abs=1e-6)


def test_federated(tmp_path: Path) -> None:
    """A detection of a class that the image was not searched for does not count; elsewhere it costs precision."""
    truth = [{"image_id": 1, "category_id": 0} | square(10, 10, 40)]
    results = [result(2, 0, 0.9, 10, 10, 40), result(1, 0, 0.8, 10, 10, 40)]
    searched = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    images = [{"id": 1} | searched, {"id": 2} | searched]
    unsearched = coco_metrics(write(tmp_path, images, truth), results, federated=True)
    assert unsearched["AP"] == unsearched["APr"] == pytest.approx(1.0)
    assert math.isnan(unsearched["APf"])
    images[1] = {"id": 2} | searched | {"neg_category_ids": [0]}
    strict = coco_metrics(write(tmp_path, images, truth), results, federated=True)
    assert strict["AP"] == pytest.approx(0.5)
    path = write(tmp_path, [{"id": 1}], truth)
    with pytest.raises(InputError, match="not LVIS's annotations"):
        coco_metrics(path, [], federated=True)
    with pytest.raises(InputError, match="engine='faster' only"):
        coco_metrics(path, [], federated=True, engine="pycocotools")


def test_intervals_over_pictures(tmp_path: Path) -> None:
    images, truth, results = crowd_of_results()
    path = write(tmp_path, images, truth)
    value, low, high = coco_interval(path, results, "bbox", "AP50", draws=20)
    assert value == coco_metrics(path, results)["AP50"]
    assert 0 < low < value < high < 1
    assert (value, low, high) == coco_interval(path, results, "bbox", "AP50", draws=20)
    one = [entry for entry in truth if entry["image_id"] == images[1]["id"]]
    alone = write(tmp_path, images[1:2], one)
    mine = [result for result in results if result["image_id"] == images[1]["id"]]
    value, low, high = coco_interval(alone, mine, draws=5)  # a single picture has no spread
    assert low == pytest.approx(value) == pytest.approx(high)


def test_no_detections_and_bad_files(tmp_path: Path) -> None:
    truth = [{"image_id": 1, "category_id": 0} | square(10, 10, 40)]
    path = write(tmp_path, [{"id": 1}], truth)
    for engine in ("faster", "pycocotools"):
        assert coco_metrics(path, [], engine=engine)["AP"] == 0  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not list image 5"):
        coco_metrics(path, [result(5, 0, 0.9, 10, 10, 40)])
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InputError, match="not readable as COCO's annotations"):
        coco_metrics(tmp_path / "b.json", [])


def test_files_without_areas_and_crowd_flags(tmp_path: Path) -> None:
    bare = {"image_id": 1, "category_id": 0, "bbox": [10, 10, 40, 40]}
    found = coco_metrics(write(tmp_path, [{"id": 1}], [bare]), [result(1, 0, 0.9, 10, 10, 40)])
    assert found["AP"] == pytest.approx(1.0)
