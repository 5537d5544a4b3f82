"""Heads on rendered scenes: they learn, they resume, they are saved and belong to their encoder."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import midsight
from midsight.api import dense_encoder, load_depth_estimator, load_segmenter
from midsight.data.depth import DepthFiles, open_depth
from midsight.data.segmentation import LabelConfig, open_segmentation
from midsight.errors import CheckpointError, ConfigError, InputError, TrainingError
from midsight.evaluate.dense import evaluate_depth, evaluate_segmentation
from midsight.evaluate.metrics.depth import DepthProtocol
from midsight.tasks.saved import load_head, read_head
from midsight.tasks.segmentation import SegmentConfig
from midsight.train.config import read_settings
from midsight.train.dense_config import DenseOptimSettings, DepthTrainConfig, SegmentTrainConfig
from midsight.train.depth import train_depth
from midsight.train.segment import train_segment
from tests.conftest import TINY_DENSE, save_tiny
from tests.train.rendered import CLASSES, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def settings(scenes: Path, encoder: Path, **changes: object) -> list[str]:
    given = {
        "encoder.name": str(encoder), "encoder.layers": [0], "data.source": str(scenes), "data.batch_size": 4,
        "data.image_size": 64, "head.kind": "dpt", "optim.lr": 3e-3, "run.device": "cpu", "run.log_every": 1,
    } | changes  # fmt: skip
    return [f"{key}={json.dumps(value)}" for key, value in given.items()]


def segmentation(scenes: Path, encoder: Path, **changes: object) -> SegmentTrainConfig:
    return read_settings(
        SegmentTrainConfig(), None, settings(scenes, encoder, **({"labels.classes": CLASSES} | changes))
    )


def depth(scenes: Path, encoder: Path, **changes: object) -> DepthTrainConfig:
    return read_settings(DepthTrainConfig(), None, settings(scenes, encoder, **changes))


@pytest.fixture(scope="module")
def segmented(scenes: Path, dense_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "segment"
    outcome = train_segment(segmentation(scenes, dense_folder, steps=100), folder)
    assert outcome.figures["mIoU"] > 0.8
    return folder


def test_a_head_learns_scenes_by_heart_and_loads_back(segmented: Path, scenes: Path, dense_folder: Path) -> None:
    config = SegmentConfig(short_side=64, sliding=False)
    segmenter = load_segmenter(segmented / "model", midsight.load(dense_folder, device="cpu"), config)
    pictures = open_segmentation(scenes, "validation", LabelConfig(CLASSES))
    figures = dict(evaluate_segmentation(segmenter, pictures))
    saved = read_head(segmented / "model")
    assert figures["mIoU"] == pytest.approx(saved.trained["figures"]["mIoU"], abs=1e-3)
    assert figures["aAcc"] > 0.9
    assert (saved.task, saved.image_size, saved.head.outputs) == ("segmentation", 64, CLASSES)
    windows = load_segmenter(segmented / "model", midsight.load(dense_folder, device="cpu")).config.windows
    assert (windows.crop, windows.stride) == (64, 43), "512 and 341, to the size of training"


def test_depth_is_learnt_by_heart(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    config = depth(scenes, dense_folder, **{"epochs": 110, "depth.range.bins": 64, "run.evaluate_every": 55})
    outcome = train_depth(config, tmp_path / "run")
    model = midsight.load(dense_folder, device="cpu")
    estimator = load_depth_estimator(tmp_path / "run" / "model", model)
    pictures = open_depth(scenes, "validation", DepthFiles())
    protocol = DepthProtocol(nyu_crop=False)
    figures = dict(evaluate_depth(estimator, pictures, protocol))
    assert figures["RMSE"] == pytest.approx(outcome.figures["RMSE"], rel=1e-3)
    assert figures["AbsRel"] < 0.2
    assert figures["delta1"] > 0.7
    flipped = dict(evaluate_depth(estimator, pictures, protocol, flip=True))
    assert flipped["RMSE"] != figures["RMSE"]
    with pytest.raises(CheckpointError, match="a head for depth, but one for segmentation was asked for"):
        load_segmenter(tmp_path / "run" / "model", model)


def test_another_encoder_is_refused(segmented: Path, dense_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=7, vision=TINY_DENSE, text=None)
    with pytest.raises(CheckpointError, match=r"trained on dense \(layers \[0\].*the encoder is other .*identity"):
        load_segmenter(segmented / "model", midsight.load(other, device="cpu"))
    model = midsight.load(dense_folder, device="cpu")
    with pytest.raises(CheckpointError, match="they differ in layers"):
        load_head(segmented / "model", dense_encoder(model, [1]), "segmentation")
    with pytest.raises(CheckpointError, match="they differ in norm"):
        load_head(segmented / "model", dense_encoder(model, [0], norm=True), "segmentation")
    shorter = midsight.load(dense_folder, device="cpu", layer=0, image_size=64)
    assert load_segmenter(segmented / "model", shorter), "the same weights up to the layer that is read"


def test_heads_that_are_damaged_are_told(segmented: Path, dense_folder: Path, tmp_path: Path) -> None:
    model = midsight.load(dense_folder, device="cpu")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_segmenter(tmp_path, model)
    copy = shutil.copytree(segmented / "model", tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    for changes, message in (
        ({"format": "other"}, "not a head of version 1"),
        ({"head": config["head"] | {"speed": 1}}, "missing or wrong"),
        ({"head": config["head"] | {"features": 8}}, "another config.json"),
    ):
        (copy / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(CheckpointError, match=message):
            load_segmenter(copy, model)
    (copy / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        load_segmenter(copy, model)


@pytest.mark.parametrize("stop_at", [3, 7])
def test_a_resumed_run_ends_in_the_same_weights(scenes: Path, dense_folder: Path, tmp_path: Path, stop_at: int) -> None:
    changes = {"steps": 10, "data.batch_size": 3, "head.dropout": 0.2, "run.evaluate_every": 4, "keep_best": True}
    config = segmentation(scenes, dense_folder, **changes)

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    straight = train_segment(config, tmp_path / "straight")
    stopped = train_segment(config, tmp_path / "stopped", report=stop)
    assert (stopped.finished, stopped.step, stopped.signal) == (False, stop_at, signal.SIGTERM)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_segment(config, tmp_path / "stopped")
    with pytest.raises(TrainingError, match="other settings"):
        train_segment(replace(config, seed=1), tmp_path / "stopped", resume=True)
    resumed = train_segment(config, tmp_path / "stopped", resume=True)
    assert resumed.finished
    assert resumed.figures == straight.figures
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("straight", "stopped"))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_other_pictures_are_another_run(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    train_segment(segmentation(scenes, dense_folder, steps=2), tmp_path / "run")
    fewer = shutil.copytree(scenes, tmp_path / "fewer")
    for kind, ending in (("images", "png"), ("masks", "png")):
        (fewer / kind / "training" / f"3.{ending}").unlink()
    with pytest.raises(TrainingError, match="other pictures or features"):
        train_segment(segmentation(fewer, dense_folder, steps=2), tmp_path / "run", resume=True)
    (tmp_path / "run" / "state.pt").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be read"):
        train_segment(segmentation(scenes, dense_folder, steps=2), tmp_path / "run", resume=True)


def test_the_best_weights_are_kept_where_that_is_asked_for(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    records: list[Mapping[str, Any]] = []
    changes = {"steps": 12, "run.evaluate_every": 1, "optim.lr": 3.0, "keep_best": True, "head.kind": "linear"}
    train_segment(segmentation(scenes, dense_folder, **changes), tmp_path / "run", report=records.append)
    figures = [record["mIoU"] for record in records if "mIoU" in record]
    assert len(figures) == 12
    assert max(figures) > figures[-1], "otherwise the next line could not fail"
    segmenter = load_segmenter(
        tmp_path / "run/model", midsight.load(dense_folder, device="cpu"), SegmentConfig(64, sliding=False)
    )
    pictures = open_segmentation(scenes, "validation", LabelConfig(CLASSES))
    assert dict(evaluate_segmentation(segmenter, pictures))["mIoU"] == pytest.approx(max(figures), abs=1e-3)


def test_unreadable_pictures_are_left_out_and_wrong_labels_stop(
    scenes: Path, dense_folder: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(scenes, tmp_path / "data")
    (data / "images/training/1.png").write_bytes(b"junk")
    records: list[Mapping[str, Any]] = []
    outcome = train_segment(segmentation(data, dense_folder, steps=3), tmp_path / "run", report=records.append)
    assert outcome.finished
    assert records[0]["skipped"] == {"unreadable picture": 1}
    with pytest.raises(InputError, match="holds the label .* 2 classes"):
        train_segment(segmentation(data, dense_folder, **{"labels.classes": 2}), tmp_path / "wrong")
    for path in (data / "images/training").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(TrainingError, match="not one of 4 pictures can be read"):
        train_segment(segmentation(data, dense_folder, steps=3), tmp_path / "none")


def test_a_validation_part_is_optional_but_must_be_right(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    data = shutil.copytree(scenes, tmp_path / "data")
    config = segmentation(data, dense_folder, steps=1)
    (data / "masks/validation/0.png").unlink()
    with pytest.raises(InputError, match=r"no \.png for 0"):
        train_segment(config, tmp_path / "run")
    shutil.rmtree(data / "masks/validation")
    outcome = train_segment(config, tmp_path / "run")
    assert (outcome.finished, dict(outcome.figures)) == (True, {})
    with pytest.raises(InputError, match="no validation pictures"):
        train_segment(replace(config, keep_best=True), tmp_path / "best")
    elsewhere = segmentation(data, dense_folder, **{"steps": 1, "data.validation": str(scenes)})
    assert "mIoU" in train_segment(elsewhere, tmp_path / "elsewhere").figures


def test_a_loss_that_is_no_number_stops(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d+\. Lower optim\.lr"):
        train_segment(
            segmentation(scenes, dense_folder, **{"steps": 50, "optim.lr": 1e30, "optim.warmup": 0.0}), tmp_path / "run"
        )


def test_what_a_run_needs(scenes: Path, dense_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels\.classes is not set"):
        train_segment(segmentation(scenes, dense_folder, **{"labels.classes": 0}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"encoder\.name and data\.source"):
        train_segment(replace(SegmentTrainConfig(), labels=segmentation(scenes, dense_folder).labels), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"labels\.names are 1"):
        train_segment(segmentation(scenes, dense_folder, **{"labels.names": ["sky"]}), tmp_path / "run")
    with pytest.raises(InputError, match="no training pictures with depth"):
        train_depth(depth(scenes / "images", dense_folder), tmp_path / "run")
    for setting in ({"steps": 0}, {"data.batch_size": 0}, {"head.kind": "mlp"}, {"optim.warmup": 1.0}):
        with pytest.raises(ConfigError):
            segmentation(scenes, dense_folder, **setting)
    assert not (tmp_path / "run").exists()


def test_the_rate_is_that_of_the_reference() -> None:
    optim = DenseOptimSettings()
    assert optim.rate(0, 40_000) == pytest.approx(1e-9)
    assert optim.rate(750, 40_000) == pytest.approx(1e-3 * (1 - 750 / 40_000) * 0.5, rel=1e-4)
    assert optim.rate(1500, 40_000) == pytest.approx(1e-3 * (1 - 1500 / 40_000))
    assert optim.rate(39_999, 40_000) == pytest.approx(1e-3 / 40_000)
    rising = [optim.rate(step, 400) for step in range(16)]
    assert rising == sorted(rising), "the warm-up is scaled to the run"
    assert np.argmax([optim.rate(step, 400) for step in range(400)]) == 15


@pytest.mark.parametrize(("name", "kind"), [("segment_ade20k", SegmentTrainConfig), ("depth_nyu", DepthTrainConfig)])
def test_shipped_recipes_are_the_published_probes(name: str, kind: type[Any]) -> None:
    config = read_settings(kind(), name)
    assert config.optim == DenseOptimSettings(1e-3, (0.9, 0.999), 1e-4, 1.0, 0.0375, 1e-6)
    if name == "segment_ade20k":
        assert (config.head.kind, config.data.image_size, config.length(20_210)) == ("bn_linear", 518, 40_000)
        assert (config.labels.classes, config.labels.zero_is_void) == (150, True)
    else:
        assert (config.head.kind, config.keep_best, config.length(24_231)) == ("dpt", True, 20 * 1515)
        assert (config.depth.range.bins, config.depth.gradient_weight) == (256, 0.5)
