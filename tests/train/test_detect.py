"""Detector finetuning on drawn shapes: it learns them, stops and resumes exactly, starts from towers and detectors."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from midsight import checkpoints, pe
from midsight.configs import PreprocessConfig
from midsight.data.coco import read_coco
from midsight.errors import CheckpointError, ConfigError, InputError, TrainingError
from midsight.evaluate.detection import evaluate_detector
from midsight.tasks.detection import load_detector, read_settings
from midsight.tasks.detection.preprocess import MASK_RCNN_PIXELS
from midsight.train.config import changed
from midsight.train.detect import build_optimizer, learning_rate, tower_of, train_detector
from midsight.train.detect_config import DetectConfig, DetectModelConfig, DetectOptimConfig, read_detect_recipe
from midsight.train.detect_data import DetectStream, repeat_factors
from midsight.train.detect_start import build_detector
from tests import peers
from tests.train.shapes import IDS, write_shapes

VISION = dict(patch_size=16, width=64, layers=2, heads=4, mlp_ratio=2.0, image_size=64)
SIZES: dict[str, dict[str, Any]] = {
    "mask_rcnn": dict(image_size=128, channels=32, box_fc=64, rpn_pre_nms=200, rpn_post_nms=60),
    "deta": dict(
        image_size=128, num_queries=40, encoder_layers=1, decoder_layers=2, feedforward_dim=64, num_feature_levels=4,
        tta_sizes=[], tta_box_ranges=[[0, 1000]],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


def recipe(shapes: Path, kind: str = "mask_rcnn", **changes: Any) -> DetectConfig:
    """A short run on the shapes, without jitter; keys with two underscores stand for those with a dot."""
    values: dict[str, Any] = {
        "steps": 6,
        "model": {"kind": kind, "vision": VISION, "detector": SIZES[kind]},
        "data": {"images": str(shapes.parent), "annotations": str(shapes), "batch_size": 3, "workers": 1},
        "augment": {"scale": [1, 1], "flip": 0.0},
        "optim": {"lr": 1e-3, "warmup_steps": 5, "layer_decay": 1.0, "clip": 1.0, "weight_decay": 0.01},
        "mask_rcnn": {"rpn_samples": 64, "roi_samples": 32},
        "run": {"device": "cpu", "log_every": 1, "save_every": 100},
    }
    config = changed(DetectConfig(), values, "test")
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config = changed(config, {group: {name: value}} if name else {group: value}, "test")
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steps", "lr", "least"), [("mask_rcnn", 100, 3e-3, 0.5), ("deta", 70, 5e-4, 0.8)])
def test_a_handful_of_pictures_is_learned(
    kind: str, steps: int, lr: float, least: float, shapes: Path, tmp_path: Path
) -> None:
    config = recipe(
        shapes, kind, steps=steps, optim__lr=lr, data__validation_annotations=str(shapes), run__log_every=10
    )
    records: list[Mapping[str, Any]] = []
    outcome = train_detector(config, tmp_path, report=records.append)
    assert outcome.finished
    assert records[-2]["loss"] < 0.7 * records[0]["loss"]
    assert outcome.figures is not None
    assert outcome.figures["box AP50"] > least
    data = read_coco(shapes, shapes.parent)
    assert outcome.model is not None
    settings = read_settings(outcome.model)
    assert settings.categories.ids == tuple(sorted(IDS.values()))
    assert settings.categories.names == ("ellipse", "rectangle")
    loaded = load_detector(outcome.model)
    again = dict(evaluate_detector(loaded, data, settings.categories.ids, engine="pycocotools"))
    assert again["box AP50"] == pytest.approx(outcome.figures["box AP50"], abs=1e-6)
    if kind == "mask_rcnn":
        assert again["mask AP50"] > least
    fresh = build_detector(config.model, data).eval()
    before = dict(evaluate_detector(fresh, data, data.category_ids))
    assert before["box AP50"] < 0.2


@pytest.mark.parametrize("kind", ["mask_rcnn", "deta"])
def test_a_stopped_run_goes_on_at_the_exact_sample(kind: str, shapes: Path, tmp_path: Path) -> None:
    config = recipe(shapes, kind, augment__scale=[0.4, 1.6], augment__flip=0.5)
    straight: list[Mapping[str, Any]] = []
    pieces: list[Mapping[str, Any]] = []
    train_detector(config, tmp_path / "straight", report=straight.append)

    def stop(record: Mapping[str, Any]) -> None:
        pieces.append(record)
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_detector(config, tmp_path / "run", report=stop)
    assert (stopped.finished, stopped.signal, stopped.step) == (False, signal.SIGTERM, 3)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_detector(config, tmp_path / "run")
    with pytest.raises(TrainingError, match="another configuration"):
        train_detector(recipe(shapes, kind, seed=1), tmp_path / "run", resume=True)
    assert train_detector(config, tmp_path / "run", resume=True, report=pieces.append).finished
    assert [r.get("loss") for r in pieces] == [r.get("loss") for r in straight]
    ours, theirs = (load_detector(tmp_path / name / "model").state_dict() for name in ("run", "straight"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert len({r["loss"] for r in straight if "loss" in r}) == 6


@pytest.mark.parametrize("kind", ["mask_rcnn", "deta"])
def test_half_precision_and_recomputing_stay_near(kind: str, shapes: Path, tmp_path: Path) -> None:
    plain: list[Mapping[str, Any]] = []
    lean: list[Mapping[str, Any]] = []
    again: list[Mapping[str, Any]] = []
    train_detector(recipe(shapes, kind, steps=1), tmp_path / "plain", report=plain.append)
    train_detector(recipe(shapes, kind, steps=1, run__precision="bf16"), tmp_path / "lean", report=lean.append)
    config = recipe(shapes, kind, steps=1, run__grad_checkpointing=True)
    train_detector(config, tmp_path / "again", report=again.append)
    assert lean[0]["loss"] != plain[0]["loss"]
    assert lean[0]["loss"] == pytest.approx(plain[0]["loss"], rel=0.1)
    assert again[0]["gradient"] == pytest.approx(plain[0]["gradient"], rel=1e-4)


def test_a_frozen_tower_stays_and_the_rest_learns(shapes: Path, tmp_path: Path) -> None:
    config = recipe(shapes, steps=2, model__frozen=True)
    torch.manual_seed(config.seed)
    start = build_detector(config.model, read_coco(shapes, shapes.parent)).state_dict()
    train_detector(config, tmp_path)
    trained = load_detector(tmp_path / "model").state_dict()
    for name, value in start.items():
        assert torch.equal(trained[name], value) == name.startswith("backbone.net."), name


def test_learning_rates_fall_off_towards_the_input(shapes: Path) -> None:
    detector = build_detector(recipe(shapes).model, read_coco(shapes, shapes.parent))
    optimizer = build_optimizer(detector, tower_of(detector), DetectOptimConfig(layer_decay=0.5, weight_decay=0.1))
    groups = {id(p): (g["factor"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    named = dict(detector.named_parameters())
    assert len(groups) == len(named)
    for name, expected in (
        ("roi_heads.box_head.conv1.weight", (1.0, 0.1)),  # its name is not the patch convolution's
        ("backbone.simfp_2.0.weight", (1.0, 0.1)),
        ("backbone.simfp_2.0.bias", (1.0, 0.0)),
        ("backbone.net.transformer.resblocks.1.mlp.c_fc.weight", (0.5, 0.1)),
        ("backbone.net.transformer.resblocks.0.mlp.c_fc.weight", (0.25, 0.1)),
        ("backbone.net.conv1.weight", (0.125, 0.1)),
        ("backbone.net.positional_embedding", (0.125, 0.0)),
    ):
        assert groups[id(named[name])] == pytest.approx(expected), name


def test_the_learning_rate_rises_and_drops() -> None:
    config = DetectOptimConfig(lr=1.0)
    rates = [learning_rate(config, step, 184_375) for step in (0, 125, 250, 163_888, 163_889, 177_545, 177_546)]
    assert rates == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01])
    assert learning_rate(config, 1, 10) == 1  # a warm-up of a tenth


def stream(shapes: Path, **changes: Any) -> DetectStream:
    data = read_coco(shapes, shapes.parent)
    values: dict[str, Any] = {"augment": DetectConfig().augment, "seed": 0, "batch_size": 2} | changes
    return DetectStream(data, 128, MASK_RCNN_PIXELS, **values)


def test_every_picture_comes_once_an_epoch_and_batches_can_be_sought(shapes: Path) -> None:
    from itertools import islice

    batches = list(islice(stream(shapes).batches(0), 6))
    first, second = [n for b in batches[:3] for n in b.images], [n for b in batches[3:] for n in b.images]
    assert sorted(first) == sorted(second) == [1, 2, 3, 4, 5, 6]
    assert first != second
    (fifth,) = islice(stream(shapes, workers=3).batches(4), 1)
    assert torch.equal(fifth.pixels, batches[4].pixels)
    assert fifth.sizes == batches[4].sizes
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(fifth.targets, batches[4].targets, strict=True))
    for batch in batches:
        for target, (height, width) in zip(batch.targets, batch.sizes, strict=True):
            assert target.masks is not None
            assert target.masks.shape[1:] == (128, 128)
            assert (target.boxes[:, 2:] <= torch.tensor([width, height])).all()
    labelled = next(stream(shapes, category_labels=True).batches(0)).targets
    assert {int(v) for t in labelled for v in t.labels} <= {3, 8}


def test_pictures_of_rare_classes_come_more_often(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, count=8, seed=3)
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["category_id"] = 3 if entry["image_id"] == 5 else 8
    path.write_text(json.dumps(content))
    data = read_coco(path, tmp_path)
    assert repeat_factors(data, 0.5).tolist() == pytest.approx([2.0 if n == 5 else 1.0 for n in range(1, 9)])
    assert repeat_factors(data, 0.0).tolist() == [1.0] * 8
    keys = stream(path, repeat_threshold=0.5)._keys(0)
    order = [next(keys)[0].id for _ in range(9)]
    assert order.count(5) == 2


def tower(folder: Path) -> Path:
    config = pe.PEConfig(
        patch_size=14, width=192, layers=2, heads=3, mlp_ratio=2.0, output_dim=32, image_size=56, use_cls_token=True
    )
    model = peers.randomize(pe.VisionTransformer(config))
    return checkpoints.save_pretrained(
        folder, model.state_dict(), name="t", vision=config, text=None, preprocess=PreprocessConfig(56)
    )


@pytest.mark.parametrize("kind", ["mask_rcnn", "deta"])
def test_starting_from_a_plain_tower(kind: Any, shapes: Path, tmp_path: Path) -> None:
    folder = tower(tmp_path / "tower")
    data = read_coco(shapes, shapes.parent)
    small = {"image_size": 384 if kind == "deta" else 128, "channels": 16} if kind == "mask_rcnn" else SIZES["deta"]
    found = build_detector(DetectModelConfig(kind, tower=str(folder), detector=small), data)
    net, weights = tower_of(found), checkpoints.load_pretrained(folder).state_dict
    assert (net.config.patch_size, net.config.grid) == (16, 24 if kind == "deta" else 4)
    assert net.window_size == net.config.grid
    assert net.rope_grid == 4
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    assert torch.equal(net.state_dict()[name], weights[name])
    assert net.conv1.weight.shape == (192, 3, 16, 16)
    assert found.config.num_classes == 2
    other = DetectModelConfig(kind, tower=str(folder), detector=small, vision={"layers": 1})
    with pytest.raises(CheckpointError, match=r"do not fit the detector's \(1 blocks of width 192\); found 2 blocks"):
        build_detector(other, data)


def test_starting_from_a_detector_of_other_classes(shapes: Path, tmp_path: Path) -> None:
    train_detector(recipe(shapes, steps=1), tmp_path / "run")
    folder, data = tmp_path / "run" / "model", read_coco(shapes, shapes.parent)
    kept = build_detector(DetectModelConfig(start=str(folder)), data)
    saved = load_detector(folder)
    assert all(torch.equal(kept.state_dict()[name], value) for name, value in saved.state_dict().items())
    three = json.loads(shapes.read_text())
    three["categories"].append({"id": 1, "name": "star"})
    path = tmp_path / "three.json"
    path.write_text(json.dumps(three))
    other = build_detector(DetectModelConfig(start=str(folder)), read_coco(path, shapes.parent))
    assert other.config.num_classes == 3
    same = {
        n for n, v in other.state_dict().items() if n in saved.state_dict() and v.shape == saved.state_dict()[n].shape
    }
    changed_names = set(other.state_dict()) - same
    assert changed_names == {
        f"roi_heads.{part}.{kind}"
        for part in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
        for kind in ("weight", "bias")
    }
    assert all(torch.equal(other.state_dict()[name], saved.state_dict()[name]) for name in same)
    with pytest.raises(CheckpointError, match="keep its sizes"):
        build_detector(DetectModelConfig(start=str(folder), detector={"box_fc": 32}), data)


def test_recipes_that_ship() -> None:
    """The published numbers: PE paper, tables 24 and 25."""
    coco = read_detect_recipe("detect_mask_rcnn")
    assert (coco.epochs, coco.data.batch_size, coco.optim.lr, coco.optim.layer_decay) == (36, 64, 5e-5, 0.9)
    assert (coco.augment.scale, coco.augment.flip) == ((0.1, 2.0), 0.5)
    assert coco.model.vision["drop_path"] == 0.5
    lvis = read_detect_recipe("detect_lvis", ["data.batch_size=8"])
    assert (lvis.data.repeat_threshold, lvis.data.batch_size, lvis.epochs) == (0.001, 8, 75)
    assert lvis.model.detector["detections_per_image"] == 300
    deta = read_detect_recipe("detect_deta")
    assert (deta.model.kind, deta.optim.lr, deta.model.detector["image_size"]) == ("deta", 5e-5, 1728)
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        read_detect_recipe("detect_finetune", ["epoch=3"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__images": ""}, r"data\.images and data\.annotations are empty"),
        ({"model__vision": {"width": 0}}, "width must be at least 1"),
        ({"model__detector": {"num_clases": 2}}, "did you mean 'num_classes'"),
        ({"model__start": "a", "model__tower": "b"}, "both given"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be(changes: dict[str, Any], message: str, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_detector(recipe(shapes, **changes), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"batch_size": 0}}, "data.batch_size must be at least 1"),
        ({"optim": {"lr": 0.0}}, "optim.lr must be above 0"),
        ({"model": {"kind": "yolo"}}, "mask_rcnn or deta"),
        ({"run": {"precision": "fp8"}}, "fp32 or bf16"),
        ({"optim": {"layer_decay": 1.5}}, "at most 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(DetectConfig(), change, "test")


def test_a_loss_that_is_no_number_names_its_pictures(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is no number .* on images \[\d, \d, \d\]"):
        train_detector(recipe(shapes, steps=30, optim__lr=1e12, optim__clip=0), tmp_path)


def test_data_without_objects(shapes: Path, tmp_path: Path) -> None:
    empty = json.loads(shapes.read_text()) | {"annotations": []}
    path = tmp_path / "empty.json"
    path.write_text(json.dumps(empty))
    with pytest.raises(InputError, match="no picture has an object"):
        train_detector(recipe(shapes, data__annotations=str(path)), tmp_path / "run")
