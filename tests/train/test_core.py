"""Runs on real files: resumed at the exact sample, starting weights, and data that changed."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.checkpoints import load_pretrained
from midsight.errors import ConfigError, InputError, TrainingError
from midsight.train.config import TrainConfig, read_recipe, resolve
from midsight.train.core import start_model, train_core


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four noisy pictures with captions; one is junk, one has no caption."""
    folder, dice = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    lines = ["path,caption"]
    for number in range(24):
        Image.fromarray(dice.integers(0, 256, (20, 26, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,picture number {number}")
    (folder / "3.png").write_bytes(b"junk")
    lines[6] = "5.png,"
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def recipe(table: Path, *changes: str) -> TrainConfig:
    stages = "stages=[{image_size=16, samples=48}, {image_size=24, samples=32}]"
    small = ("data.batch_size=8", "data.micro_batch=4", "run.log_every=1", "run.device=cpu", "run.save_every=100")
    return read_recipe("core_tiny", [stages, f"data.source={table}", *small, *changes])


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_pretrained(folder / "model").state_dict


@pytest.mark.parametrize("step", [2, 6, 7])
def test_a_stopped_run_goes_on_at_the_exact_sample(table: Path, tmp_path: Path, step: int) -> None:
    straight: list[Mapping[str, Any]] = []
    pieces: list[Mapping[str, Any]] = []
    train_core(recipe(table), tmp_path / "straight", report=straight.append)

    def stop(record: Mapping[str, Any]) -> None:
        pieces.append(record)
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_core(recipe(table), tmp_path / "run", report=stop)
    assert not stopped.finished
    assert stopped.signal == signal.SIGTERM
    assert stopped.step == step + 1  # the signal came behind the step's record
    finished = train_core(recipe(table), tmp_path / "run", resume=True, report=pieces.append)
    assert finished.finished
    for key in ("step", "loss", "mask_loss", "gradient", "skipped"):
        assert [r.get(key) for r in pieces] == [r.get(key) for r in straight], key
    assert straight[-1]["skipped"].keys() == {"missing caption", "unreadable picture"}
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_data_set_that_changed_is_refused(table: Path, tmp_path: Path) -> None:
    train_core(recipe(table), tmp_path / "run")
    changed = table.with_name("changed.csv")
    changed.write_text(table.read_text().replace("picture number 7", "another caption"))
    with pytest.raises(TrainingError, match="the data set changed"):
        train_core(recipe(changed), tmp_path / "run", resume=True)
    moved = table.with_name("moved")
    moved.mkdir()
    for path in table.parent.iterdir():
        if path.is_file():
            (moved / path.name).write_bytes(path.read_bytes())
    assert train_core(recipe(moved / "pairs.csv"), tmp_path / "run", resume=True).finished


def test_data_without_a_usable_sample_is_told(tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("path,caption\n" + "no.png,a picture\n" * 8)
    with pytest.raises(InputError, match="no sample that can be used"):
        train_core(recipe(table), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data\.source is empty"):
        train_core(recipe(table, "data.source="), tmp_path / "run")


def test_the_seed_decides_the_first_weights_and_a_start_replaces_them(table: Path, tiny_folder: Path) -> None:
    one, same, other = (
        start_model(resolve(recipe(table, f"seed={seed}"))).state_dict()["visual.proj"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    started = start_model(resolve(recipe(table, f"model.start={tiny_folder}")))
    found = load_pretrained(tiny_folder).state_dict
    assert torch.equal(started.visual.proj, found["visual.proj"])
    assert started.visual.positional_embedding.shape == (5, 48)  # 2 x 2 patches at 16 pixels, and the class token
    assert torch.equal(started.visual.positional_embedding[0], found["visual.positional_embedding"][0])


def test_a_start_with_a_table_of_eight_bit_floats(table: Path, packed_folder: Path, tmp_path: Path) -> None:
    """Trained on in single precision, and what is saved then is whole."""
    config = recipe(table, f"model.start={packed_folder}", "optim.lr=1e-6", "optim.warmup_steps=0")
    found = load_pretrained(packed_folder).state_dict["token_embedding.weight"]
    started = start_model(resolve(config)).token_embedding.weight
    assert started.dtype is torch.float32
    assert torch.equal(started, found.float())
    outcome = train_core(config, tmp_path / "run")
    assert outcome.model is not None
    trained = load_pretrained(outcome.model).state_dict["token_embedding.weight"]
    assert trained.dtype is torch.float32
    torch.testing.assert_close(trained, found.float(), rtol=0, atol=1e-3)
    assert not torch.equal(trained, found.float())


def test_evaluation_needs_classes(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 0 classes"):
        train_core(recipe(table, f"run.evaluate_on={table.parent / 'none'}"), tmp_path / "run")


def test_data_on_the_device_train_and_resume_like_any_other(table: Path, tmp_path: Path) -> None:
    changes = ("data.resident=24", "steps.mask=false")
    straight: list[Mapping[str, Any]] = []
    whole = train_core(recipe(table, *changes), tmp_path / "straight", report=straight.append)
    assert straight[-1]["skipped"] == {"unreadable picture": 1, "missing caption": 1}

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    train_core(recipe(table, *changes), tmp_path / "run", report=stop)
    resumed = train_core(recipe(table, *changes), tmp_path / "run", resume=True)
    assert whole.finished
    assert resumed.finished
    expected, found = weights(tmp_path / "straight"), weights(tmp_path / "run")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    start = start_model(resolve(recipe(table, *changes))).state_dict()
    assert not torch.allclose(found["visual.proj"], start["visual.proj"], atol=1e-4)
    with pytest.raises(ConfigError, match="data.resident is for images"):
        recipe(table, "data.resident=24", "data.frames=2")
