"""`midsight layers`: the table, the files, the cut encoder, and wrong usage."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from tests.evaluate import layered


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layered.save_tower(tmp_path_factory.mktemp("layered") / "tower")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layered.class_folder(tmp_path_factory.mktemp("data") / "classes")


def run(data: Path, tower: Path, *arguments: object) -> Result:
    given = [data, "--model", tower, "--device", "cpu", *arguments]
    return CliRunner().invoke(app, ["layers", *map(str, given)])


def test_the_best_layer_is_printed_written_and_saved(tower: Path, classes: Path, tmp_path: Path) -> None:
    result = run(classes, tower, "--task", "knn", "-o", tmp_path / "out", "--save", tmp_path / "best")
    assert result.exit_code == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("layer ")]
    assert rows[1].startswith("layer 1 of 3 (layer_idx 0)")
    assert [row.rstrip().endswith("*") for row in rows[1:]] == [False, True, False]
    assert "best: layer 2 of 3 (layer_idx 1)" in result.stderr
    assert "x (" in result.stderr
    assert "9 rounds) the speed of the whole encoder" in result.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["best"]["layer"] == 2
    assert report["truncated"]["speedup"] > 0
    assert (tmp_path / "out/layers.png").stat().st_size > 1000
    cut = midsight.load(tmp_path / "best", device="cpu")
    assert cut.tower.layers == 2


def test_json_is_the_report(tower: Path, classes: Path, tmp_path: Path) -> None:
    result = run(classes, tower, "-t", "retrieval", "--layers", "1:", "--json", "-o", tmp_path, "--image-size", 40)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "report.json").read_text())
    assert ([row["layer_idx"] for row in record["layers"]], record["image_size"]) == ([1, 2], 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "sam"), "task must be one of knn, linear"),
        (("--task", "knn", "--layers", "one"), "--layers must be numbers"),
        (("--task", "knn", "--layers", "5:"), "names none of the 3 blocks"),
        (("--task", "knn", "--layers", "3"), "layer_idx 3 is outside"),
        (("--task", "segmentation"), "no training pictures with labels"),
        (("--task", "tracking"), "Expected"),
        (("--task", "attention", "--memory-gib", "0"), "no folder is named for files"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], message: str, tower: Path, classes: Path) -> None:
    result = run(classes, tower, *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_a_folder_that_is_in_use_is_not_written_over(tower: Path, classes: Path) -> None:
    result = run(classes, tower, "--task", "knn", "--save", classes)
    assert (result.exit_code, "is there already" in result.stderr) == (2, True)
