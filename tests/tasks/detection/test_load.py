"""Detectors from files as they are published, and the published ones by name."""

import argparse
import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from midsight.errors import CheckpointError, ConfigError, UnknownModelError
from midsight.tasks.detection import (
    DETECTORS,
    Categories,
    DetectorInfo,
    MaskRCNN,
    find_detector,
    load_detector,
    read_settings,
    save_detector,
)
from tests.tasks.detection import small


def own(kind: str) -> tuple[DetectorInfo, torch.nn.Module]:
    model = small.mask_rcnn() if kind == "mask_rcnn" else small.deta()
    return DetectorInfo(small.VISION, model.config), model


def test_the_layout_of_fvcore(tmp_path: Path) -> None:
    info, model = own("mask_rcnn")
    path = tmp_path / "model.pth"
    inside = OrderedDict(model.published_state_dict())
    inside._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    torch.save({"model": inside, "trainer": {"iteration": 9}, "iteration": 9}, path)
    loaded = load_detector(info, path)
    assert isinstance(loaded, MaskRCNN)
    assert not loaded.training
    (ours,), (theirs,) = model(small.PICTURES[:1]), loaded(small.PICTURES[:1])
    assert len(ours["boxes"]) > 0
    assert torch.equal(ours["boxes"], theirs["boxes"])


def test_settings_are_replaced(tmp_path: Path) -> None:
    info, model = own("deta")
    torch.save(model.published_state_dict(), tmp_path / "a.pth")
    (found,) = load_detector(info, tmp_path / "a.pth", settings={"detections_per_image": 3})(small.PICTURES[:1])
    assert torch.equal(found["boxes"], model(small.PICTURES[:1])[0]["boxes"][:3])
    with pytest.raises(ConfigError, match="did you mean 'num_queries'"):
        load_detector(info, tmp_path / "a.pth", settings={"num_querys": 3})


def test_the_layout_of_deta(tmp_path: Path) -> None:
    """With the settings of its training beside it, which are an argparse.Namespace."""
    info, model = own("deta")
    path = tmp_path / "checkpoint.pth"
    settings = argparse.Namespace(lr=2e-4, device="cuda", lr_backbone_names=["backbone.0"], position_embedding="sine")
    torch.save({"model": model.published_state_dict(), "epoch": 11, "args": settings}, path)
    (ours,), (theirs,) = model(small.PICTURES[:1]), load_detector(info, path)(small.PICTURES[:1])
    assert torch.equal(ours["boxes"], theirs["boxes"])


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_files_that_are_no_detector_are_told(tmp_path: Path) -> None:
    info, model = own("mask_rcnn")
    path = tmp_path / "a.pth"
    torch.save({"model": model.published_state_dict(), "args": argparse.Namespace(x=Canary(tmp_path / "made"))}, path)
    with pytest.raises(CheckpointError, match="a.pth: holds more than tensors"):
        load_detector(info, path)
    assert not (tmp_path / "made").exists()
    torch.save({"model": own("deta")[1].published_state_dict()}, path)
    with pytest.raises(CheckpointError, match="a.pth: not this detector's checkpoint"):
        load_detector(info, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="a.pth: .*cut"):
        load_detector(info, path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_detector(info, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="give checkpoint_path"):
        load_detector(info)


@pytest.mark.parametrize("kind", ["mask_rcnn", "deta"])
def test_a_folder_of_ones_own(kind: str, tmp_path: Path) -> None:
    _, model = own(kind)
    folder = save_detector(tmp_path / "mine", model, Categories((3, 90), ("car", "toothbrush")), {"steps": 7})
    settings = read_settings(folder)
    assert (settings.vision, settings.config) == (small.VISION, model.config)
    assert settings.categories == Categories((3, 90), ("car", "toothbrush"))
    assert settings.metadata == {"steps": 7}
    (ours,), (theirs,) = model(small.PICTURES[:1]), load_detector(folder)(small.PICTURES[:1])
    assert torch.equal(ours["boxes"], theirs["boxes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "is of the format 'x'"),
        ({"version": 2}, "version 2, expected"),
        ({"kind": "yolo"}, "of the kind 'yolo', expected mask_rcnn or deta"),
        ({"config": {"classes": 3}}, "has no field 'classes'"),
        ({"config": []}, "expected a MaskRCNNConfig or a dictionary"),
        ({"category_ids": ["1"]}, "expected a list of int"),
        ({"names": None}, "expected a list of str"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_told(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save_detector(tmp_path, own("mask_rcnn")[1]) / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_detector(tmp_path)
    assert "detector.json" in str(caught.value)


def test_published_detectors() -> None:
    """Sizes as published: 50 blocks of width 1536; parameters in billions."""
    for name, parameters in (
        ("mask_rcnn_PEcore_G_coco75ep", 1_885_521_776), ("mask_rcnn_PEspatial_G_lvis75ep", 1_891_719_362),
        ("deta_coco_1824pix", 1_880_064_281),
    ):  # fmt: skip
        with torch.device("meta"):
            model = find_detector(name).build()
        assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(DETECTORS) == 5
    with pytest.raises(UnknownModelError, match="did you mean mask_rcnn_PEspatial_G_coco36ep"):
        find_detector("mask_rcnn_PEspatial_G_coco75ep")


def test_a_published_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="deta_coco_1824pix.pth of facebook/PE-Detection"):
        load_detector("deta_coco_1824pix")
