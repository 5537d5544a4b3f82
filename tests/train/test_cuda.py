"""Core training on a CUDA device: precisions, recomputation, compiled blocks, a run that goes on where it stopped."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import midsight
from midsight.checkpoints import load_pretrained
from midsight.cli.main import app
from midsight.train.config import TrainConfig, read_recipe
from midsight.train.core import train_core

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: what only a GPU can show is not tested on this machine"
)
STAGES = "stages=[{image_size=16, samples=16}, {image_size=24, samples=16}]"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen noisy pictures with captions."""
    folder, dice = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    lines = ["path,caption"]
    for number in range(16):
        Image.fromarray(dice.integers(0, 256, (20, 26, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,picture number {number}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def recipe(table: Path, *changes: str) -> TrainConfig:
    small = ("data.batch_size=8", "data.micro_batch=4", "run.log_every=1", "run.device=cuda", "run.save_every=100")
    return read_recipe("core_tiny", [STAGES, f"data.source={table}", *small, *changes])


def losses_of(table: Path, folder: Path, *changes: str) -> list[float]:
    records: list[Mapping[str, Any]] = []
    assert train_core(recipe(table, *changes), folder, report=records.append).finished
    assert all(np.isfinite(record["gradient"]) for record in records)
    return [record["loss"] for record in records]


@pytest.mark.filterwarnings("ignore")  # of the compiler, about the machine
@pytest.mark.parametrize(
    ("changes", "close"),
    [
        ((), 1e-4),
        (("run.precision=bf16",), 0.05),
        (("run.precision=bf16", "run.grad_checkpointing=true"), 0.05),
        (("run.precision=bf16", "run.compile=true"), 0.05),
    ],
)
def test_losses_are_those_of_the_cpu(table: Path, tmp_path: Path, changes: tuple[str, ...], close: float) -> None:
    expected = losses_of(table, tmp_path / "cpu", "run.device=cpu")
    found = losses_of(table, tmp_path / "cuda", *changes)
    assert len(found) == 4
    assert found == pytest.approx(expected, rel=close)
    assert midsight.load(tmp_path / "cuda" / "model", device="cuda").device.type == "cuda"


def test_a_stopped_run_goes_on_with_the_same_numbers(table: Path, tmp_path: Path) -> None:
    config = recipe(table, "run.precision=bf16")
    train_core(config, tmp_path / "straight")

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not train_core(config, tmp_path / "run", report=stop).finished
    assert train_core(config, tmp_path / "run", resume=True).finished
    ours, theirs = (load_pretrained(tmp_path / name / "model").state_dict for name in ("run", "straight"))
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_the_command(table: Path, tmp_path: Path) -> None:
    command = ["train", "core", "core_tiny", "--data", str(table), "--out", str(tmp_path / "run"), "--json"]
    small = (STAGES, "data.batch_size=8", "data.micro_batch=4", "run.device=cuda", "run.precision=bf16")
    done = CliRunner().invoke(app, [*command, *(part for change in small for part in ("--set", change))])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "model").is_dir()
