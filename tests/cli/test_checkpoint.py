"""`midsight info` and `midsight convert`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import midsight
from midsight import checkpoints, pe
from midsight.cli.main import app

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
NAME = "PE-Core-T16-384"


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest published pair, as a published file."""
    path = tmp_path_factory.mktemp("official") / f"{NAME}.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoints.write_torch(path, pe.CLIP.from_config(NAME).state_dict())
    return path


def test_info(tiny_folder: Path, tiny_model: midsight.Perception) -> None:
    result = run("info", tiny_folder, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["model"] == "tiny"
    assert record["layout"] == "official"
    assert record["identity"] == tiny_model.identity
    assert record["parameters"] == sum(parameter.numel() for parameter in tiny_model.model.parameters())
    assert record["vision"]["width"] == 48
    assert record["preprocess"]["image_size"] == 32
    table = run("info", tiny_folder).stdout
    assert tiny_model.identity in table
    assert f"{record['parameters']:,}" in table


def test_info_on_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    for path, message in ((tmp_path / "a.pt", "is empty"), (tmp_path / "b.pt", "no such file")):
        result = run("info", path)
        assert result.exit_code == 2
        assert message in result.stderr
        assert str(path) in result.stderr


@pytest.mark.parametrize("to", ["timm", "open_clip", "midsight", "transformers"])
def test_convert_there_and_back_is_lossless(official: Path, tmp_path: Path, to: str) -> None:
    there, back = tmp_path / to, tmp_path / "back.pt"
    result = run("convert", official, there, "--to", to)
    assert result.exit_code == 0, result.stderr
    assert f"in the layout of {to}" in result.stderr
    assert run("convert", there, back, "--to", "official").exit_code == 0
    before, after = checkpoints.read_state_dict(official), checkpoints.read_state_dict(back)
    if to == "timm":
        assert "has no place for" in result.stderr
        before = checkpoints.vision_tower(before)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_convert_says_what_cannot_be(official: Path, tmp_path: Path) -> None:
    wrong = run("convert", official, tmp_path / "a", "--to", "onnx")
    assert wrong.exit_code == 2
    assert "official, timm, open_clip" in wrong.stderr
    assert run("convert", tmp_path / "missing.pt", tmp_path / "a", "--to", "timm").exit_code == 2
    nowhere = run("convert", official, official / "a.pt", "--to", "official")
    assert nowhere.exit_code == 1
    assert nowhere.stderr.startswith("error: ")


def test_convert_in_half_precision(official: Path, tmp_path: Path) -> None:
    assert run("convert", official, tmp_path / "half", "--to", "midsight", "--dtype", "bf16").exit_code == 0
    record = json.loads(run("info", tmp_path / "half", "--json").stdout)
    assert "bfloat16" in record["dtype"]
    exact, half = midsight.load(official, image_size=64), midsight.load(tmp_path / "half", image_size=64)
    assert float(exact.embed_images(PICTURE)[0] @ half.embed_images(PICTURE)[0]) > 0.999
