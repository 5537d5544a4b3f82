"""Heads and detectors by what a user says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight.api import load_depth_estimator, load_segmenter, open_depth, open_detector, open_segmenter
from midsight.errors import CheckpointError, ConfigError, InputError, UnknownModelError
from midsight.tasks import detection
from tests import dense_heads
from tests.tasks.detection import small


@pytest.fixture
def photo() -> np.ndarray:
    return np.ascontiguousarray(small.PICTURES[0].permute(1, 2, 0).numpy())  # 90 x 128


def test_a_head_is_opened_over_its_encoder(segment_head: Path, dense_folder: Path, photo: np.ndarray) -> None:
    opened = open_segmenter(segment_head, dense_folder, device="cpu")
    expected = load_segmenter(segment_head, midsight.load(dense_folder, device="cpu"))(photo)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(opened.predict(photo), expected)
    assert opened.names == (*dense_heads.NAMES, "class 4")
    assert str(segment_head) in opened.about
    larger = open_segmenter(segment_head, dense_folder, size=64, device="cpu")
    assert (larger.predict(photo) != expected).any()
    assert larger.identity == opened.identity


def test_the_identity_is_of_the_head_too(
    segment_head: Path, depth_head: Path, dense_folder: Path, tmp_path: Path, photo: np.ndarray
) -> None:
    other = dense_heads.save(tmp_path / "other", dense_folder, "segmentation", seed=2)
    identities = {open_segmenter(head, dense_folder, device="cpu").identity for head in (segment_head, other)}
    depth = open_depth(depth_head, dense_folder, device="cpu")
    assert len({*identities, depth.identity}) == 3
    expected = load_depth_estimator(depth_head, midsight.load(dense_folder, device="cpu"))(photo)
    np.testing.assert_array_equal(depth.predict(photo), expected)
    assert expected.std() > 0.01


def test_the_encoder_that_a_head_names_is_taken(tmp_path: Path) -> None:
    head = dense_heads.save(tmp_path / "head", "embedded-spatial", "segmentation")
    assert "embedded-spatial" in open_segmenter(head, device="cpu").about


def test_what_does_not_fit_is_told(
    segment_head: Path, dense_folder: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midsight.api.opened.SHIPPED", tmp_path / "heads")
    for opener, option in ((open_segmenter, "--head"), (open_depth, "--head"), (open_detector, "--detector")):
        with pytest.raises(InputError, match=f"comes with this version; give {option}"):
            opener()
    with pytest.raises(InputError, match=r"trained on 'dense', which cannot be loaded by that name .*--model"):
        open_segmenter(segment_head)
    with pytest.raises(CheckpointError, match="a head for segmentation, but one for depth"):
        open_depth(segment_head, dense_folder)
    with pytest.raises(CheckpointError, match=r"trained on dense .* but the encoder is tiny"):
        open_segmenter(segment_head, tiny_folder)
    with pytest.raises(CheckpointError, match="Expected the folder of a trained head"):
        open_segmenter(tmp_path)
    with pytest.raises(ConfigError, match="short_side"):
        open_segmenter(segment_head, dense_folder, size=0)


def test_what_is_shipped_is_the_default(
    segment_head: Path, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midsight.api.opened.SHIPPED", segment_head.parent)
    assert open_segmenter(model=dense_folder, device="cpu").names == (*dense_heads.NAMES, "class 4")


def test_detections_are_those_of_the_detector(detector_folder: Path, photo: np.ndarray, tmp_path: Path) -> None:
    opened = open_detector(detector_folder, threshold=0.5, device="cpu")
    (expected,) = detection.load_detector(detector_folder)([photo])
    keep = expected["scores"] >= 0.5
    assert 0 < int(keep.sum()) < len(keep)
    found = opened.predict(photo)
    for key in ("boxes", "scores", "labels", "masks"):
        torch.testing.assert_close(found[key], expected[key][keep])
    assert dict(zip(opened.category_ids, opened.names, strict=True)) == dense_heads.CATEGORIES
    Image.fromarray(photo).save(tmp_path / "photo.png")
    torch.testing.assert_close(opened.predict(tmp_path / "photo.png"), found)


def test_a_detector_whose_labels_are_category_ids(tmp_path: Path, photo: np.ndarray) -> None:
    """DETA's boxes may reach beyond the picture, and not all of its labels mean something."""
    net = small.deta(8)
    folder = detection.save_detector(tmp_path / "deta", net)
    content = '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "one"}, {"id": 3, "name": "three"}]}'
    (tmp_path / "names.json").write_text(content)
    opened = open_detector(folder, categories=tmp_path / "names.json", device="cpu")
    assert (opened.names, opened.category_ids) == (("one", "three"), (1, 3))
    (expected,) = net([photo])
    assert {1, 2} <= set(expected["labels"].tolist()), "the labels that matter are not found"
    found = opened.predict(photo)
    known = torch.isin(expected["labels"], torch.tensor([1, 3]))
    wide = (expected["boxes"][:, 2:].minimum(torch.tensor([128.0, 90])) > expected["boxes"][:, :2].clamp(min=0)).all(1)
    torch.testing.assert_close(found["scores"], expected["scores"][known & wide])
    assert set(found["labels"].tolist()) <= {0, 1}
    assert found["boxes"].min() >= 0
    assert (found["boxes"][:, 2] <= 128).all()
    unnamed = open_detector(folder, device="cpu")
    assert unnamed.names == tuple(f"class {k}" for k in range(5))


def test_published_detectors_have_cocos_names() -> None:
    from midsight.api.detector import classes_of

    mask_rcnn, deta, lvis = (
        classes_of(name, detection.DETECTORS[name])
        for name in ("mask_rcnn_PEcore_G_coco75ep", "deta_coco_1824pix", "mask_rcnn_PEcore_G_lvis75ep")
    )
    assert mask_rcnn[1:] == deta[1:]
    assert (len(mask_rcnn[1]), mask_rcnn[1][0], mask_rcnn[1][-1]) == (80, 1, 90)
    assert (mask_rcnn[2][0], mask_rcnn[2][-1]) == ("person", "toothbrush")
    assert (list(mask_rcnn[0]), list(deta[0])) == (list(range(80)), list(deta[1]))
    assert (len(lvis[2]), lvis[1][0], lvis[1][-1]) == (1203, 1, 1203)


def test_wrong_detectors_are_told(detector_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="did you mean mask_rcnn_PEspatial_G_coco36ep"):
        open_detector("mask_rcnn_PEspatial_coco")
    with pytest.raises(InputError, match="threshold must be from 0 to 1"):
        open_detector(detector_folder, threshold=1.5)
    (tmp_path / "names.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 70, "name": "x"}]}')
    with pytest.raises(InputError, match="1 categories, but the detector has 4 classes"):
        open_detector(detector_folder, categories=tmp_path / "names.json")
    with pytest.raises(CheckpointError, match="no such file"):
        open_detector(detector_folder, tmp_path / "no.safetensors")
