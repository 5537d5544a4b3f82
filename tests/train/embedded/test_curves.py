"""Losses are kept line by line and drawn as a picture that differs where they differ."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from midsight.train.embedded import curves


def drawn(folder: Path, values: list[float]) -> np.ndarray:
    report = curves.recorder(folder / "a.jsonl")
    for step, value in enumerate(values):
        report({"step": step, "loss": value})
    curves.draw(folder / "curves.png", {"A": folder / "a.jsonl", "not there": folder / "b.jsonl"})
    return np.asarray(Image.open(folder / "curves.png"))


def test_a_falling_loss_is_drawn_falling(tmp_path: Path) -> None:
    picture = drawn(tmp_path, [8.0, 4.0, 0.5, 0.1])
    blue = (picture[..., 2] > 120) & (picture[..., 0] < 120)
    area = blue[40:220, 60:360]
    heights = [float(np.nonzero(column)[0].mean()) for column in area.T if column.any()]
    assert heights[0] < 60 < 100 < heights[-1]


def test_a_recorder_begins_anew(tmp_path: Path) -> None:
    first, second = drawn(tmp_path, [8.0, 0.1]), drawn(tmp_path, [0.1, 8.0])
    assert first.shape == second.shape
    assert (first != second).any()


def test_a_recorder_goes_on_where_a_run_does(tmp_path: Path) -> None:
    drawn(tmp_path, [8.0, 4.0, 2.0])
    curves.recorder(tmp_path / "a.jsonl")({"step": 2, "loss": 3.0})
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [8.0, 4.0, 3.0]


def test_no_stage_at_all_gives_an_empty_picture(tmp_path: Path) -> None:
    curves.draw(tmp_path / "curves.png", {"A": tmp_path / "a.jsonl"})
    assert (np.asarray(Image.open(tmp_path / "curves.png")) == 255).all()
