"""Video training on real files: captioned MP4s in a table and in a shard, learnt, stopped and resumed."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsight.checkpoints import load_pretrained
from midsight.data.scenes.write import encode_clip
from midsight.data.shards import ShardWriter
from midsight.files import atomic_write
from midsight.train.config import TrainConfig, read_recipe
from midsight.train.core import train_core

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}


def movie(colour: tuple[int, int, int], to_the_right: bool) -> bytes:
    """Eight frames of 32 pixels: a bar of one colour that moves to one side."""
    frames = []
    for step in range(8):
        frame = np.full((32, 32, 3), 60, dtype=np.uint8)
        left = 3 * (step if to_the_right else 7 - step)
        frame[:, left : left + 10] = colour
        frames.append(frame)
    return encode_clip(frames, 8)


@pytest.fixture(scope="module")
def movies() -> dict[str, bytes]:
    return {
        f"a {name} bar going {'right' if side else 'left'}": movie(colour, side)
        for name, colour in COLOURS.items()
        for side in (True, False)
    }


@pytest.fixture(scope="module")
def table(movies: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight captioned videos, and one that is cut."""
    folder = tmp_path_factory.mktemp("movies")
    lines = ["path,caption"]
    for number, (caption, data) in enumerate(movies.items()):
        (folder / f"{number}.mp4").write_bytes(data)
        lines.append(f"{number}.mp4,{caption}")
    (folder / "cut.mp4").write_bytes(next(iter(movies.values()))[:200])
    (folder / "movies.csv").write_text("\n".join([*lines, "cut.mp4,a cut bar"]) + "\n")
    return folder / "movies.csv"


def recipe(source: Path, samples: int, *changes: str) -> TrainConfig:
    small = (
        f"stages=[{{image_size=32, samples={samples}}}]", "data.batch_size=4", "data.micro_batch=2", "data.frames=3",
        "steps.mask=false", "steps.augment=false", "run.device=cpu", "run.log_every=1", "run.save_every=100",
        "optim.lr=0.01",
    )  # fmt: skip
    return read_recipe("core_tiny", [f"data.source={source}", *small, *changes])


def test_clips_of_real_files_are_learnt(table: Path, tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    assert train_core(recipe(table, 240), tmp_path / "run", report=seen.append).finished
    first, last = (float(np.mean([record["loss"] for record in part])) for part in (seen[:5], seen[-5:]))
    assert last < 0.7 * first
    assert seen[-1]["skipped"].keys() == {"unreadable video"}


def test_a_stopped_run_over_a_shard_goes_on_at_the_exact_clip(movies: dict[str, bytes], tmp_path: Path) -> None:
    with atomic_write(tmp_path / "movies.tar") as file, ShardWriter(file) as shard:
        for number, (caption, data) in enumerate(movies.items()):
            shard.add(f"{number:04d}", {"mp4": data, "txt": caption.encode()})
    config = recipe(tmp_path / "movies.tar", 24)
    assert train_core(config, tmp_path / "straight").finished

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not train_core(config, tmp_path / "run", report=stop).finished
    assert train_core(config, tmp_path / "run", resume=True).finished
    ours, theirs = (load_pretrained(tmp_path / name / "model").state_dict for name in ("run", "straight"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
