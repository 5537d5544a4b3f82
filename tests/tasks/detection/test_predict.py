"""Heads on a plain encoder's map: the same as the whole detector whose tower attends everywhere, alone or together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import midsight
from midsight import checkpoints
from midsight.api import load_depth_estimator, load_segmenter
from midsight.api.perceive import load_head_detector, load_perceiver
from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError
from midsight.tasks.depth import DepthConfig
from midsight.tasks.depth.head import DepthHead, DepthRange
from midsight.tasks.features import DenseEncoder
from midsight.tasks.heads import HeadConfig, build_head
from midsight.tasks.saved import SavedHead, save_head
from midsight.tasks.segmentation import SegmentConfig
from tests import peers
from tests.tasks.detection import small

SIDE = 128
VISION = replace(small.VISION, image_size=SIDE)  # the table's grid is that of the input
NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> midsight.Perception:
    detector = small.mask_rcnn(0, VISION, window_size=8, global_blocks=(0, 1), rope_grid=8)
    folder = tmp_path_factory.mktemp("encoder")
    pixels = PreprocessConfig(image_size=SIDE, mean=(127 / 255,) * 3, std=(127 / 255,) * 3)  # the detectors' own
    checkpoints.save_pretrained(
        folder, detector.backbone.net.state_dict(), name="tower", vision=VISION, text=None, preprocess=pixels
    )
    return midsight.load(folder, device="cpu")


@pytest.fixture(scope="module")
def heads(model: midsight.Perception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three random heads of the encoder, in folders."""
    folder = tmp_path_factory.mktemp("heads")
    detector = small.mask_rcnn(0, VISION, window_size=8, global_blocks=(0, 1), rope_grid=8)
    about = midsight.api.dense_encoder(model).describe()
    weights = {k: v for k, v in detector.state_dict().items() if not k.startswith("backbone.net.")}
    save_head(folder / "detect", SavedHead("detection", detector.config, about, SIDE, NAMES), weights)
    shape = HeadConfig(VISION.width, 5, "linear")
    save_head(
        folder / "segment",
        SavedHead("segmentation", shape, about, SIDE),
        peers.randomize(build_head(shape)).state_dict(),
    )
    bins = DepthRange(16, 0.1, 8.0)
    shape = HeadConfig(VISION.width, 16, "linear")
    weights = peers.randomize(DepthHead(shape, bins)).state_dict()
    save_head(folder / "depth", SavedHead("depth", shape, about, SIDE, depths=bins), weights)
    return folder


def test_the_same_as_the_whole_detector(model: midsight.Perception, heads: Path) -> None:
    whole = small.mask_rcnn(0, VISION, window_size=8, global_blocks=(0, 1), rope_grid=8)
    detector, saved = load_head_detector(heads / "detect", model)
    assert saved.classes == NAMES
    for ours, theirs in zip(detector(small.PICTURES), whole(small.PICTURES), strict=True):
        assert len(theirs["boxes"]) > 3  # otherwise nothing is compared
        for name in ("boxes", "scores", "labels"):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3)
        assert (ours["masks"] == theirs["masks"]).float().mean() > 0.99


def test_one_pass_gives_what_the_heads_give_alone(
    model: midsight.Perception, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perceiver = load_perceiver(heads, model)
    picture = small.picture(SIDE, SIDE, 5)
    passes = count_passes(perceiver.encoder, monkeypatch)
    found = perceiver([picture])[0]
    assert passes == [1]
    monkeypatch.undo()
    alone = load_head_detector(heads / "detect", model)[0]([picture])[0]
    torch.testing.assert_close(found.detections["boxes"], alone["boxes"])
    pixels = picture.permute(1, 2, 0).numpy()
    segmenter = load_segmenter(heads / "segment", model, SegmentConfig(SIDE, sliding=False))
    assert len(np.unique(found.classes)) > 1
    np.testing.assert_array_equal(found.classes, segmenter(pixels))
    depth = load_depth_estimator(heads / "depth", model, DepthConfig(SIDE))
    assert found.metres.std() > 0.01
    np.testing.assert_allclose(found.metres, depth(pixels), rtol=1e-4)


def test_pictures_of_any_shape(model: midsight.Perception, heads: Path) -> None:
    perceiver = load_perceiver(heads, model)
    for found, picture in zip(perceiver(small.PICTURES), small.PICTURES, strict=True):
        size = tuple(picture.shape[1:])
        assert found.classes.shape == found.metres.shape == size
        assert found.detections["masks"].shape[-2:] == size
    wide = perceiver([np.full((3, 200, 3), 90, np.uint8)])[0]
    assert wide.classes.shape == (3, 200)


def test_heads_of_another_kind_or_encoder(
    model: midsight.Perception, heads: Path, dense_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="a head for depth, but one for detection"):
        load_head_detector(heads / "depth", model)
    with pytest.raises(CheckpointError, match="trained on .*, but the encoder is"):
        load_head_detector(heads / "detect", midsight.load(dense_folder, device="cpu"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_perceiver(tmp_path, model)


def count_passes(encoder: DenseEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list of one number that grows with each pass of the tower."""
    passes = [0]

    once = encoder.tower.forward_intermediates

    def counted(*args: Any, **settings: Any) -> Any:
        passes[0] += 1
        return once(*args, **settings)

    monkeypatch.setattr(encoder.tower, "forward_intermediates", counted)
    return passes
