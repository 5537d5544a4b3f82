"""The loop: it learns, it stops and goes on, and it refuses what does not belong to it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import midsight
from midsight.errors import ConfigError, TrainingError
from midsight.pe.headless import resample_positions
from midsight.train import state
from tests.train import memory

ROOT = Path(__file__).parents[2]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from midsight.checkpoints import load_pretrained

    return dict(load_pretrained(folder / "model").state_dict)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run without interruption."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    outcome = memory.trainer(memory.tiny(), folder, memory.MemorySource(), memory.alone()).run()
    assert outcome.finished
    assert outcome.step == 8
    return folder


def test_a_run_learns_its_pairs(tmp_path: Path) -> None:
    config = memory.tiny(
        "optim.lr=0.02", "stages=[{image_size=16, samples=960}, {image_size=24, samples=320}]", "run.save_every=100"
    )
    seen: list[Any] = []
    source = memory.MemorySource(samples=16)
    outcome = memory.trainer(config, tmp_path / "run", source, memory.alone(), report=seen.append).run()
    assert outcome.step == 80
    first, last = seen[0]["loss"], seen[-1]["loss"]
    assert last < 0.5 * first
    assert seen[-1]["mask_loss"] < seen[0]["mask_loss"]
    assert seen[-1]["logit_scale"] <= 100


def test_logs_and_model_of_a_run(straight: Path) -> None:
    lines = records(straight)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["image_size"] for line in lines] == [16] * 4 + [24] * 4
    assert lines[-1]["samples"] == 128
    for key in ("loss", "mask_loss", "lr", "logit_scale", "samples_per_second", "flops_per_second", "memory_gib"):
        assert lines[0][key] > 0, key
    assert list((straight / "tensorboard").iterdir())
    model = midsight.load(straight / "model", device="cpu")
    assert model.config.image_size == 24


def test_position_tables_grow_as_the_tower_would_resample_them() -> None:
    from midsight import pe

    config = memory.tiny()
    small, large = (pe.CLIP(*memory.towers(config, size)) for size in (16, 24))
    found = resample_positions(small.visual.positional_embedding.detach(), 3, True)
    torch.testing.assert_close(found, small.visual._positions(3, 3).detach())
    assert found.shape == large.visual.positional_embedding.shape


def test_micro_batches_do_not_change_the_run(straight: Path, tmp_path: Path) -> None:
    config = memory.tiny("data.micro_batch=16")
    memory.trainer(config, tmp_path / "run", memory.MemorySource(), memory.alone()).run()
    for one, other in zip(records(straight), records(tmp_path / "run"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["mask_loss"] == pytest.approx(other["mask_loss"], rel=1e-5)
        assert one["gradient"] == pytest.approx(other["gradient"], rel=1e-4)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.train.memory", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(folder.with_suffix(".stderr"), "wb") as stderr:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)


def wait_for(condition: Any, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_run_ends_in_the_same_weights(straight: Path, tmp_path: Path, number: int, code: int) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--slow", "0.3")
    wait_for(lambda: state.latest(folder) is not None, process)  # step 3
    process.send_signal(number)
    assert process.wait(60) == code
    stopped = state.latest(folder)
    assert stopped is not None
    assert 3 <= int(stopped.name[-8:]) < 8
    assert not (folder / "model").exists()
    memory.trainer(memory.tiny(), folder, memory.MemorySource(), memory.alone()).run(resume=True)
    ours, theirs = weights(folder), weights(straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_the_newest_checkpoints_are_kept(straight: Path) -> None:
    assert [path.name for path in sorted((straight / "checkpoints").iterdir())] == ["step-00000006", "step-00000008"]


def copy(source: Path, target: Path, step: int) -> Path:
    import shutil

    shutil.copytree(source / "checkpoints" / f"step-{step:08d}", target / "checkpoints" / f"step-{step:08d}")
    return target


def test_a_checkpoint_of_another_run_is_refused(straight: Path, tmp_path: Path) -> None:
    folder, source, here = copy(straight, tmp_path, 6), memory.MemorySource(), memory.alone()
    with pytest.raises(TrainingError, match="another configuration"):
        memory.trainer(memory.tiny("optim.lr=1e-4"), folder, source, here).run(resume=True)
    with pytest.raises(TrainingError, match=r"another data \(memory-64, expected memory-65\).*data set changed"):
        memory.trainer(memory.tiny(), folder, memory.MemorySource(samples=65), here).run(resume=True)
    with pytest.raises(TrainingError, match="holds a run already"):
        memory.trainer(memory.tiny(), folder, source, here).run()


def test_a_cut_checkpoint_is_told(straight: Path, tmp_path: Path) -> None:
    folder = copy(straight, tmp_path, 6)
    (shard,) = (folder / "checkpoints" / "step-00000006").glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"step-00000006: cannot be read.*use the one before"):
        memory.trainer(memory.tiny(), folder, memory.MemorySource(), memory.alone()).run(resume=True)


def test_a_loss_that_is_no_number_keeps_the_last_good_state(straight: Path, tmp_path: Path) -> None:
    source = memory.MemorySource(nan=4)
    with pytest.raises(TrainingError, match=r"step 5 at 24 pixels: loss nan.*image of sample sample-\d+.*00000004"):
        memory.trainer(memory.tiny(), tmp_path / "run", source, memory.alone()).run()
    memory.trainer(memory.tiny(), tmp_path / "run", memory.MemorySource(), memory.alone()).run(resume=True)
    ours, theirs = weights(tmp_path / "run"), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files, as a full disk would: the second checkpoint cannot be written."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from tests.train import memory;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from midsight.errors import OutputError;"
        "full = lambda record: record['step'] == 5 and resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "run = memory.trainer(memory.tiny(), Path(sys.argv[1]), memory.MemorySource(), memory.alone(), report=full)\n"
        "try:\n    run.run()\n"
        "except OutputError as error:\n    print(error); sys.exit(7)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 7, done.stderr.decode()
    assert "step-00000006: the checkpoint could not be written" in done.stdout.decode()
    assert "step-00000004" in done.stdout.decode()
    assert state.latest(tmp_path) == tmp_path / "checkpoints" / "step-00000004"
    outcome = memory.trainer(memory.tiny(), tmp_path, memory.MemorySource(), memory.alone()).run(resume=True)
    assert outcome.step == 8


def test_clips_are_trained_by_the_mean_of_their_frames(tmp_path: Path) -> None:
    config = memory.tiny("data.frames=3", "steps.mask=false", "stages=[{image_size=16, samples=32}]")
    still = memory.tiny("steps.mask=false", "stages=[{image_size=16, samples=32}]")
    memory.trainer(config, tmp_path / "clips", memory.MemorySource(frames=3), memory.alone()).run()
    memory.trainer(still, tmp_path / "still", memory.MemorySource(), memory.alone()).run()
    for one, other in zip(records(tmp_path / "clips"), records(tmp_path / "still"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)  # three equal frames are one picture


def test_masked_views_of_clips_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps.mask"):
        memory.tiny("data.frames=3")


def test_options_that_change_only_how_it_is_run(straight: Path, tmp_path: Path) -> None:
    config = memory.tiny("run.grad_checkpointing=true")
    memory.trainer(config, tmp_path / "run", memory.MemorySource(), memory.alone()).run()
    assert [r["loss"] for r in records(straight)] == pytest.approx([r["loss"] for r in records(tmp_path / "run")])
    rounded = memory.tiny("run.precision=bf16", "stages=[{image_size=16, samples=64}]")
    memory.trainer(rounded, tmp_path / "bf16", memory.MemorySource(), memory.alone()).run()
    assert [r["loss"] for r in records(tmp_path / "bf16")][:2] == pytest.approx(
        [r["loss"] for r in records(straight)][:2], rel=0.02
    )


def test_figures_of_an_evaluation_are_logged(tmp_path: Path) -> None:
    config = memory.tiny("run.evaluate_every=3", "stages=[{image_size=16, samples=64}]")
    run = memory.trainer(
        config, tmp_path, memory.MemorySource(), memory.alone(), evaluate=lambda pair, size: {"acc1": size / 100}
    )
    run.run()
    assert [(r["step"], r["acc1"]) for r in records(tmp_path) if "acc1" in r] == [(3, 0.16), (4, 0.16)]


def test_only_hidden_tokens_may_count(straight: Path, tmp_path: Path) -> None:
    config = memory.tiny("mask.positions=hidden", "stages=[{image_size=16, samples=64}]")
    memory.trainer(config, tmp_path / "hidden", memory.MemorySource(), memory.alone()).run()
    first, other = records(straight)[0], records(tmp_path / "hidden")[0]
    assert first["loss"] == other["loss"]
    assert other["mask_loss"] > first["mask_loss"]  # tokens that see their own pixels are nearer to their targets
