"""`midsight train spatial`: a run from a shard, in one process and in two, its log, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midsight import pe
from midsight.checkpoints import load_pretrained, save_pretrained
from midsight.cli.main import app
from midsight.configs import PreprocessConfig
from tests import peers
from tests.train.blocks_world import write_blocks

VISION = pe.PEConfig(patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=8, image_size=32)
SMALL = (
    "steps=2", "model.image_size=64", "model.drop_path=0", "locality.teacher=scenes", "semantic.layer=0",
    "data.batch_size=4", "run.device=cpu", "run.log_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("given")
    tower = peers.randomize(pe.VisionTransformer(VISION))
    preprocess = PreprocessConfig(image_size=32)
    save_pretrained(folder / "core", tower.state_dict(), name="core", vision=VISION, text=None, preprocess=preprocess)
    changes = [part for change in SMALL for part in ("--set", change)]
    return ["spatial_g14", "--from", str(folder / "core"), "--data", str(write_blocks(folder / "data")), *changes]


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["train", "spatial", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_run(given: list[str], tmp_path: Path) -> None:
    code, _, err = run(*given, "--out", tmp_path / "run")
    assert code == 0, err
    assert "step 2/2  loss " in err
    assert "locality " in err
    assert "step 2: done" in err
    assert load_pretrained(tmp_path / "run" / "model").vision.pool_type == "none"
    assert run(*given, "--out", tmp_path / "run")[0] != 0
    code, out, _ = run(*given, "--out", tmp_path / "other", "--json")
    assert code == 0
    assert {"step", "semantic", "locality"} <= set(json.loads(out.splitlines()[0]))


def test_two_processes_give_the_losses_of_one(given: list[str], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "midsight.cli.main", "train", "spatial", *given, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert run(*given, "--out", tmp_path / "one")[0] == 0
    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == 2
    assert one[0] != one[1]
    assert two == pytest.approx(one, rel=1e-4)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    code, _, err = run("spatial_g14", "--data", tmp_path)
    assert code == 2
    assert "--data and --out" in err
