"""The sweep over layers: a tower whose middle layer is best, every task, every kind of encoder, bad inputs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight.api import Perception, dense_encoder
from midsight.data.davis import read_davis
from midsight.errors import ConfigError, InputError, LayerError, MediaError
from midsight.evaluate.layer_data import class_set
from midsight.evaluate.layer_store import StoreLimits
from midsight.evaluate.layer_sweep import sweep_layers
from midsight.evaluate.layer_types import SweepConfig
from midsight.evaluate.tracking import evaluate_davis, summary
from midsight.images.labels import write_depth, write_labels
from midsight.tasks.tracking import PE
from tests.evaluate import layered


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Perception:
    return midsight.load(layered.save_tower(tmp_path_factory.mktemp("layered") / "tower"), device="cpu")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layered.class_folder(tmp_path_factory.mktemp("data") / "classes")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many that a trained probe sees what is noise."""
    return layered.class_folder(tmp_path_factory.mktemp("data") / "many", each=40)


@pytest.mark.parametrize("task", ["knn", "retrieval"])
def test_the_middle_layer_is_found_by_likeness(task: str, model: Perception, classes: Path) -> None:
    found = sweep_layers(model, classes, SweepConfig(task))
    assert found.best.layer_idx == layered.MIDDLE
    assert found.name(found.best.layer_idx) == "layer 2 of 3 (layer_idx 1)"
    assert found.best.value > 0.9
    assert found.figures[layered.LAST].value < 0.7
    for row in found.figures:
        assert row.low <= row.value <= row.high
    assert (found.training, found.units) == ((0, 36) if task == "retrieval" else (30, 6))


@pytest.mark.parametrize("task", ["linear", "attention"])
@pytest.mark.parametrize("cls_token", [False, True])
def test_trained_probes_find_the_scrambled_layer(task: str, cls_token: bool, many: Path, tmp_path: Path) -> None:
    model = midsight.load(layered.save_tower(tmp_path / "tower", cls_token), device="cpu")
    found = sweep_layers(model, many, SweepConfig(task))
    assert found.best.layer_idx != layered.LAST
    assert found.best.value >= 0.9
    assert found.figures[layered.LAST].value < 0.75


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_dense_probes_find_the_scrambled_layer(task: str, model: Perception, tmp_path: Path) -> None:
    data = layered.dense_folder(tmp_path / "data", "masks" if task == "segmentation" else "depth", 30)
    found = sweep_layers(model, data, SweepConfig(task))
    best, last = found.best, found.figures[layered.LAST]
    assert best.layer_idx != layered.LAST
    if task == "segmentation":
        assert best.value > 0.7 > 0.3 > last.value
    else:
        assert (found.metric, found.higher) == ("RMSE", False)
        assert best.value < 1.1 < 1.5 < last.value


def test_tracking_gives_each_layer_what_it_gets_alone(model: Perception, tmp_path: Path) -> None:
    data = layered.davis(tmp_path)
    found = sweep_layers(model, data, SweepConfig("tracking", long_side=96))
    for row in found.figures:
        encoder = dense_encoder(model, [row.layer_idx])
        alone = summary(list(evaluate_davis(encoder, read_davis(data), replace(PE, long_side=96))))
        assert row.value == pytest.approx(alone["JF"])
    assert found.best.layer_idx == layered.MIDDLE
    assert found.unit == "objects"


def test_features_are_those_of_the_model(model: Perception, classes: Path) -> None:
    """The figure of a layer follows from what `features` gives for it."""
    found = sweep_layers(model, classes, SweepConfig("retrieval"))
    files = sorted(classes.rglob("*.png"))
    names = np.array([path.parent.name for path in files])
    for row, maps in zip(found.figures, model.features(files, [0, 1, 2]), strict=True):
        x = torch.from_numpy(maps).mean(dim=(2, 3))
        cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2).fill_diagonal_(-2)
        assert row.value == pytest.approx((names[cosines.argmax(dim=1).numpy()] == names).mean())


@pytest.mark.parametrize("kind", ["pair", "tower", "embedded"])
def test_every_kind_of_encoder(kind: str, classes: Path, tiny_folder: Path, dense_folder: Path) -> None:
    source = {"pair": tiny_folder, "tower": dense_folder, "embedded": None}[kind]
    size = None if kind == "embedded" else 48  # not the size that it was trained with
    model = midsight.load(source, device="cpu", image_size=size)
    found = sweep_layers(model, classes, SweepConfig("knn"))
    assert [row.layer_idx for row in found.figures] == list(range(model.tower.layers))


def test_some_layers_are_measured_as_among_all(model: Perception, classes: Path) -> None:
    whole = sweep_layers(model, classes, SweepConfig("linear"))
    some = sweep_layers(model, classes, SweepConfig("linear", layers=(-1, 0)))
    assert [row.layer_idx for row in some.figures] == [0, 2]
    assert some.figures == (whole.figures[0], whole.figures[2])
    with pytest.raises(LayerError, match="layer_idx 3 is outside layered, which has 3 blocks"):
        sweep_layers(model, classes, SweepConfig("knn", layers=(3,)))


def test_pairs_are_found_by_their_texts(tiny_model: Perception, model: Perception, tmp_path: Path) -> None:
    for k in range(6):
        Image.new("RGB", (32, 32), (40 * k, 200 - 30 * k, 90)).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.txt").write_text(f"caption {k}")
    found = sweep_layers(tiny_model, tmp_path, SweepConfig("retrieval"))
    assert found.pairs
    scores = (
        tiny_model.embed_images(sorted(tmp_path.glob("*.png")))
        @ tiny_model.embed_texts([f"caption {k}" for k in range(6)]).T
    )
    assert found.figures[-1].value == pytest.approx((scores.argmax(axis=1) == np.arange(6)).mean())
    with pytest.raises(InputError, match="has no text tower"):
        sweep_layers(model, tmp_path, SweepConfig("retrieval"))
    with pytest.raises(InputError, match="this task needs classes"):
        sweep_layers(model, tmp_path, SweepConfig("knn"))


def test_a_picture_of_coco_counts_as_its_largest_object(model: Perception, tmp_path: Path) -> None:
    annotations = layered.coco(tmp_path / "coco")
    found = class_set(annotations, 0.3)
    for sample, label in zip(found.samples, found.labels, strict=True):
        assert found.names[label] == list(layered.COLOURS)[int(Path(sample.media).stem) % 3]
    assert sweep_layers(model, annotations, SweepConfig("knn", share=0.3)).best.layer_idx == layered.MIDDLE


def test_own_validation_folders_are_used(model: Perception, tmp_path: Path) -> None:
    layered.class_folder(tmp_path / "train", 5, seed=1)
    layered.class_folder(tmp_path / "val", 3, seed=2)
    found = sweep_layers(model, tmp_path, SweepConfig("knn"))
    assert (found.training, found.units) == (15, 9)


def test_the_split_is_by_content(classes: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for path in classes.rglob("*.png"):
        target = tmp_path / "moved" / path.parent.name / f"other {path.name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    held = []
    for folder in (classes, tmp_path / "moved"):
        found = class_set(folder, 0.2)
        held.append({Path(sample.media).read_bytes() for sample in found.samples[found.training :]})
    assert held[0] == held[1]
    assert len(held[0]) == 6


# Limits and work that is taken up again


def test_the_disk_gives_what_memory_gives(model: Perception, tmp_path: Path) -> None:
    data = layered.dense_folder(tmp_path / "data", "masks", 6)
    config = SweepConfig("segmentation", layers=(0, 1))
    kept = sweep_layers(model, data, config)
    on_disk = sweep_layers(model, data, replace(config, limits=StoreLimits(memory_gib=0)), tmp_path / "out")
    assert list((tmp_path / "out/features").glob("*.tokens"))
    for a, b in zip(kept.figures, on_disk.figures, strict=True):
        assert a.value == pytest.approx(b.value, abs=0.01)


def test_a_sweep_that_was_stopped_goes_on(model: Perception, classes: Path, tmp_path: Path) -> None:
    config = SweepConfig("knn", limits=StoreLimits(memory_gib=0), batch_size=1)
    whole = sweep_layers(model, classes, config, tmp_path / "whole")

    def stop(what: str, done: int, of: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_layers(model, classes, config, tmp_path / "out", stop)
    seen: list[int] = []
    resumed = sweep_layers(model, classes, config, tmp_path / "out", lambda what, done, of: seen.append(done))
    assert seen[0] == 16  # what was flushed
    assert resumed == whole
    again: list[int] = []
    sweep_layers(model, classes, config, tmp_path / "out", lambda what, done, of: again.append(done))
    assert again == [36]


def test_features_beyond_the_limits_are_refused_with_their_size(
    model: Perception, classes: Path, tmp_path: Path
) -> None:
    config = SweepConfig("attention", limits=StoreLimits(memory_gib=0, disk_gib=1e-6))
    with pytest.raises(InputError, match=r"36 pictures in 3 layers take .* no folder is named"):
        sweep_layers(model, classes, config)
    with pytest.raises(InputError, match=r"allowed are 0 GiB of memory, and 1e-06 GiB of disk"):
        sweep_layers(model, classes, config, tmp_path)


# Bad inputs


def test_one_class_only(model: Perception, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for k in range(3):
        Image.new("RGB", (32, 32), (k, 0, 0)).save(tmp_path / "cat" / f"{k}.png")
    with pytest.raises(InputError, match="one class, 'cat'"):
        sweep_layers(model, tmp_path, SweepConfig("knn"))


def test_a_class_with_one_picture_is_told_and_not_measured(model: Perception, tmp_path: Path) -> None:
    layered.class_folder(tmp_path / "data", 4)
    (tmp_path / "data/alone").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "data/alone/0.png")
    with pytest.warns(UserWarning, match="one picture only of alone"):
        found = sweep_layers(model, tmp_path / "data", SweepConfig("knn"))
    assert (found.training, found.units) == (10, 3)


def test_no_class_with_two_pictures(model: Perception, tmp_path: Path) -> None:
    layered.class_folder(tmp_path, 1)
    with (
        pytest.warns(UserWarning, match="one picture only of blue, green, red"),
        pytest.raises(InputError, match="none can be held out"),
    ):
        sweep_layers(model, tmp_path, SweepConfig("linear"))


def test_unreadable_pictures_are_left_out_and_counted(model: Perception, tmp_path: Path) -> None:
    layered.class_folder(tmp_path / "data", 5)
    (tmp_path / "data/red/broken.png").write_bytes(b"junk")
    found = sweep_layers(model, tmp_path / "data", SweepConfig("retrieval"))
    assert found.left_out == {"unreadable picture": 1}
    assert found.units == 15


def test_pairs_that_are_none(model: Perception, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training pictures with labels"):
        sweep_layers(model, tmp_path, SweepConfig("segmentation"))
    data = layered.dense_folder(tmp_path / "data", "masks", 3)
    (data / "masks/1.png").unlink()
    with pytest.raises(InputError, match=r"masks: no \.png for 1"):
        sweep_layers(model, data, SweepConfig("segmentation"))


def test_a_mask_of_another_size(model: Perception, tmp_path: Path) -> None:
    data = layered.dense_folder(tmp_path / "data", "masks", 3)
    write_labels(data / "masks/2.png", np.zeros((16, 32), np.uint8))
    with pytest.raises(InputError, match=r"2\.png: 32x16 pixels, but .*2\.png has 32x32"):
        sweep_layers(model, data, SweepConfig("segmentation"))


def test_pictures_without_depth_are_left_out_and_counted(model: Perception, tmp_path: Path) -> None:
    data = layered.dense_folder(tmp_path, "depth", 8)
    write_depth(data / "depth/3.png", np.zeros((32, 32)))
    (data / "images/4.png").write_bytes(b"junk")
    found = sweep_layers(model, data, SweepConfig("depth"))
    assert found.left_out == {"unreadable picture": 1, "picture without a depth": 1}
    assert found.training + found.units == 6


def test_annotations_of_one_class(model: Perception, tmp_path: Path) -> None:
    annotations = layered.coco(tmp_path / "coco", 2)
    content = json.loads(annotations.read_text())
    for entry in content["annotations"]:
        entry["category_id"] = 1
    annotations.write_text(json.dumps(content))
    with pytest.raises(InputError, match="at least two classes are needed, but there is one, 'green'"):
        sweep_layers(model, annotations, SweepConfig("knn"))
    annotations.write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(InputError, match="but there is none"):
        sweep_layers(model, annotations, SweepConfig("knn"))


def test_masks_of_one_label_and_sets_of_one_picture(model: Perception, tmp_path: Path) -> None:
    data = layered.dense_folder(tmp_path / "data", "masks", 3)
    for k in range(3):
        write_labels(data / f"masks/{k}.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(InputError, match="the label 0 alone"):
        sweep_layers(model, data, SweepConfig("segmentation"))
    with pytest.raises(InputError, match="none can be held out"):
        sweep_layers(model, layered.dense_folder(tmp_path / "one", "depth", 1), SweepConfig("depth"))


def test_a_frame_of_another_size(model: Perception, tmp_path: Path) -> None:
    data = layered.davis(tmp_path)
    Image.new("RGB", (50, 50)).save(data / "JPEGImages/480p/two/00002.jpg")
    with pytest.raises(MediaError, match=r"00002\.jpg: 50x50 pixels, the annotations 96x64"):
        sweep_layers(model, data, SweepConfig("tracking"))


def test_settings_that_cannot_be(dense_folder: Path, classes: Path) -> None:
    for wrong in ({"task": "sam"}, {"share": 1.0}, {"share": 0.0}, {"epochs": -1}, {"lr": 0.0}):
        with pytest.raises(ConfigError):
            SweepConfig(**({"task": "knn"} | wrong))
    with pytest.raises(ConfigError, match="load it whole"):
        sweep_layers(midsight.load(dense_folder, layer=1, device="cpu"), classes, SweepConfig("knn"))


def test_a_record_is_json(model: Perception, classes: Path) -> None:
    record = json.loads(json.dumps(sweep_layers(model, classes, SweepConfig("knn")).record()))
    assert record["best"] == record["layers"][layered.MIDDLE]
    assert (record["best"]["layer"], record["best"]["layer_idx"], record["layers_of_model"]) == (2, 1, 3)
