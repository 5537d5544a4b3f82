"""Two processes against one, and what happens when one of them dies."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from midsight.checkpoints import load_pretrained
from midsight.train import losses
from midsight.train.distributed import World, average_gradients
from tests.train import memory

ROOT = Path(__file__).parents[2]


def torchrun(folder: Path, *arguments: str, timeout: float = 600) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.memory", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=timeout)


def losses_of(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)[key] for line in lines for key in ("loss", "mask_loss")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of two sharded processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    done = torchrun(folder)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Warning" not in done.stderr
    return folder


def check_against_one(two: Path, one: Path, *changes: str) -> None:
    memory.trainer(memory.tiny(*changes), one, memory.MemorySource(), memory.alone()).run()
    ours, theirs = losses_of(two), losses_of(one)
    assert len(theirs) == 16
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_two_sharded_processes_give_the_losses_of_one(two: Path, tmp_path: Path) -> None:
    check_against_one(two, tmp_path / "one")


def test_two_whole_copies_give_the_losses_of_one(tmp_path: Path) -> None:
    done = torchrun(tmp_path / "two", "run.sharding=replicate")
    assert done.returncode == 0, done.stderr.decode()
    check_against_one(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize(
    ("mode", "sharding"), [("locked=text", "full"), ("mode=lora", "full"), ("locked=image", "replicate")]
)
def test_finetuning_in_two_processes_gives_the_losses_of_one(mode: str, sharding: str, tmp_path: Path) -> None:
    changes = ("loss.same_text=true", f"finetune.{mode}", f"run.sharding={sharding}")
    done = torchrun(tmp_path / "two", *changes)
    assert done.returncode == 0, done.stderr.decode()
    check_against_one(tmp_path / "two", tmp_path / "one", *changes)
    ours, theirs = (load_pretrained(tmp_path / name / "model").state_dict for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_process_that_dies_stops_all_with_its_error_and_the_run_goes_on(two: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    failed = torchrun(tmp_path / "run", "--die", "1:5")
    assert time.monotonic() - begun < 30
    assert failed.returncode != 0
    assert "RuntimeError: this process dies on purpose" in failed.stderr.decode()
    resumed = torchrun(tmp_path / "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr.decode()
    ours, theirs = (load_pretrained(folder / "model").state_dict for folder in (tmp_path / "run", two))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def told_while(block: str) -> int:
    """Exit code of one of two processes that is told to stop within a block of code; 1 if it lives on."""
    code = (
        "import time, torch; from midsight.train.distributed import StopRequest, World;"
        "stop = StopRequest(World(0, 2, torch.device('cpu')), grace=0.3).__enter__();"
        f"{block}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        return process.wait(30)


def test_a_process_that_hangs_leaves_when_told_but_not_while_it_saves() -> None:
    assert told_while("print('ready', flush=True); time.sleep(20)") == 143
    assert told_while("stop.saving.acquire(); print('ready', flush=True); time.sleep(1.5); exit(7)") == 7
    assert told_while("print('ready', flush=True); stop.heard(); time.sleep(1.5); exit(8)") == 8


def test_alone_nothing_is_gathered_or_averaged() -> None:
    rows = torch.randn(3, 4)
    assert losses.gather(rows) is rows
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    average_gradients([parameter], World(0, 1, torch.device("cpu")))
    assert torch.equal(parameter.grad, torch.ones(2))
