"""`midsight train detect`: a run from files, its log, and what it refuses."""

import json
from pathlib import Path

from typer.testing import CliRunner

from midsight.cli.main import app
from midsight.tasks.detection import load_detector
from tests.train.shapes import write_shapes

SMALL = (
    "steps=2", "model.detector={image_size=64, channels=16, box_fc=16, rpn_post_nms=20}", "data.batch_size=2",
    "model.vision={patch_size=16, width=32, layers=2, heads=2, mlp_ratio=2.0, image_size=32}", "run.device=cpu",
    "run.log_every=1",
)  # fmt: skip


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["train", "detect", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_run(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "data", count=3)
    settings = [part for change in SMALL for part in ("--set", change)]
    data = ("--images", path.parent, "--annotations", path, "--validation", path)
    code, out, err = run(*data, "--out", tmp_path / "run", *settings)
    assert code == 0, err
    assert "step 2/2  loss " in err
    assert "box AP " in err
    assert "step 2: done" in err
    assert load_detector(tmp_path / "run" / "model").config.num_classes == 2
    code, _, err = run(*data, "--out", tmp_path / "run", *settings)
    assert code != 0
    code, out, err = run(*data, "--out", tmp_path / "run", *settings, "--resume", "--json")
    assert code == 0, err
    assert "box AP" in json.loads(out.splitlines()[-1])


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    code, _, err = run("--images", tmp_path)
    assert code == 2
    assert "--images, --annotations and --out" in err
