"""Training with a language model in two processes against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from midsight.plm import PLM
from midsight.train.align_lang import train_lang
from midsight.train.config import read_settings
from tests.plm import tiny
from tests.plm.conversations import coloured, question
from tests.train import lang


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole PLM."""
    folder = tmp_path_factory.mktemp("start") / "plm"
    tiny.saved(folder)
    return str(folder)


def torchrun(folder: Path, *arguments: str, fails: bool = False) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.lang", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, timeout=900)
    assert (done.returncode != 0) is fails, done.stderr.decode()


def test_two_processes_that_were_stopped_end_in_the_same_weights(start: str, tmp_path: Path) -> None:
    mixed = coloured(tmp_path / "rows", 7)
    with mixed.open("a") as file:
        file.write("a broken row\n")
    run = tmp_path / "cut", str(mixed), start
    torchrun(*run, "--stop", "2", fails=True)
    assert not (tmp_path / "cut" / "model").exists()
    torchrun(*run, "--resume")
    torchrun(tmp_path / "whole", str(mixed), start)
    ours, theirs = (PLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("cut", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    skipped = [
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["skipped"] for name in ("cut", "whole")
    ]
    assert skipped[0] == skipped[1]
    assert skipped[0]["broken row"] >= 1


@pytest.mark.parametrize(
    ("sharding", "more"),
    [
        ("full", ()),
        ("full", ("tower.train=frozen", "language.train=lora", "run.grad_checkpointing=true")),
        ("replicate", ("data.pack_length=1",)),
    ],
)
def test_two_processes_give_the_losses_of_one(start: str, tmp_path: Path, sharding: str, more: tuple[str, ...]) -> None:
    """Rows of several lengths, with tiles and without; the processes have different numbers of packs and tiles."""
    mixed = coloured(tmp_path / "rows", 9)
    with mixed.open("a") as file:
        file.writelines(
            json.dumps(question(f"{number} and one? " + "well " * number, "more")) + "\n" for number in range(5)
        )
    changes = (f"run.sharding={sharding}", *more)
    torchrun(tmp_path / "two", str(mixed), start, *changes)
    config = read_settings(lang.recipe(mixed, model__start=start), None, changes)
    train_lang(config, tmp_path / "one")
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    )
    assert len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert mine["gradient"] == pytest.approx(other["gradient"], rel=1e-4)
        assert (mine["learnt"], mine["tokens"]) == (other["learnt"], other["tokens"])
    first, second = (PLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("two", "one"))
    for name, value in second.items():
        torch.testing.assert_close(first[name], value, rtol=1e-2, atol=2e-3)
