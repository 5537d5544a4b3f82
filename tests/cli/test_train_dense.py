"""`midsight train segment` and `depth`: whole runs from files, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import midsight
from midsight.api import load_depth_estimator, load_segmenter
from midsight.cli.main import app
from midsight.images.labels import write_depth, write_labels

QUICK = ["--set", "run.device=cpu", "--set", "run.log_every=2", "--set", "data.batch_size=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two-coloured pictures; what is dark is class 1, and far."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks", "depth"):
        for part in ("training", "validation"):
            (folder / kind / part).mkdir(parents=True)
    dice = np.random.default_rng(0)
    for k in range(4):
        dark = np.zeros((32, 40), bool)
        dark[:, 5 * k : 5 * k + 18] = True
        pixels = np.where(dark[..., None], 40, 210) + dice.integers(-8, 9, (32, 40, 3))
        for part in ("training", "validation"):
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / part / f"{k}.png")
            write_labels(folder / "masks" / part / f"{k}.png", dark.astype(np.uint8))
            write_depth(folder / "depth" / part / f"{k}.png", np.where(dark, 8.0, 2.0))
    return folder


def run(*arguments: object) -> "tuple[int, str, str]":
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_segmentation_from_folders(data: Path, dense_folder: Path, tmp_path: Path) -> None:
    given = ["segment", "--from", dense_folder, "--data", data, "--out", tmp_path / "run", "--classes", 2, *QUICK]
    given += ["--layers", "0,-1", "--set", "steps=30", "--set", "optim.lr=1e-2", "--set", "run.evaluate_every=15"]
    code, stdout, stderr = run(*given)
    assert code == 0, stderr
    assert "mIoU" in stdout
    assert "step 30/30  loss" in stderr
    model = midsight.load(dense_folder, device="cpu")
    found = load_segmenter(tmp_path / "run/model", model)(data / "images/training/0.png")
    assert found.shape == (32, 40)
    assert set(np.unique(found)) <= {0, 1}
    assert json.loads((tmp_path / "run/model/config.json").read_text())["encoder"]["layers"] == [0, 2]
    code, _, stderr = run(*given)
    assert code == 1
    assert "holds a run already" in stderr
    code, stdout, _ = run(*given, "--resume", "--json")
    assert code == 0
    assert json.loads(stdout.splitlines()[-1])["figures"]["mIoU"] > 0.5


def test_depth_from_folders(data: Path, dense_folder: Path, tmp_path: Path) -> None:
    given = ["depth", "--from", dense_folder, "--data", data, "--out", tmp_path / "run", *QUICK, "--json"]
    code, stdout, stderr = run(*given, "--set", "epochs=5", "--set", "depth.range.bins=16")
    assert code == 0, stderr
    records = [json.loads(line) for line in stdout.splitlines()]
    assert [r["step"] for r in records if "RMSE" in r] == [2, 4, 6, 8, 10]
    estimator = load_depth_estimator(tmp_path / "run/model", midsight.load(dense_folder, device="cpu"))
    assert estimator(data / "images/training/0.png").shape == (32, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "--data", "x", "--out", "x"], "a run needs --data, --from"),
        (["segment", "--data", "x", "--out", "x", "--from", "embedded"], "labels.classes is not set"),
        (["segment", "--data", "x", "--out", "x", "--from", "embedded", "--classes", "2"], "x: no training pictures"),
        (["depth", "--data", "x", "--out", "x", "--from", "embedded"], "x: no training pictures with depth"),
        (["depth", "--data", "x", "--out", "x", "--from", "embedded", "--layers", "last"], "--layers must be numbers"),
        (["depth", "no_recipe", "--data", "x", "--out", "x", "--from", "embedded"], "not a readable recipe"),
        (["depth", "--data", "x", "--out", "x", "--from", "embedded", "--set", "optim.speed=1"], "no setting 'speed'"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run(*arguments)
    assert code == 2
    assert message in stderr
    assert list(tmp_path.iterdir()) == []
