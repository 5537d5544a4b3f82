"""What a run is at a step: weights, optimiser and place in the data, in a folder that is whole or not there.

Layout of a run's folder: `checkpoints/step-00001000/` with `state.json` and PyTorch's distributed checkpoint, which
any number of processes can read; `log.jsonl`; `tensorboard/`; at the end `model/`, as `midsight.load` opens it.
"""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torch.distributed.tensor import DTensor, distribute_tensor

from midsight.errors import OutputError, TrainingError
from midsight.files import atomic_write
from midsight.pe.headless import resample_positions
from midsight.train.distributed import World, collect
from midsight.train.optim import prime

_STATE = "state.json"
_POSITIONS = "model.visual.positional_embedding"


@dataclass(frozen=True)
class Progress:
    """Where a run stands; all numbers are of what is done."""

    step: int = 0  # over all stages
    stage: int = 0
    stage_step: int = 0
    samples: int = 0
    data: tuple[dict[str, Any] | None, ...] = (None,)  # state of each process's stream; None: not begun


def tensors(pair: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors of a run under flat names, sharded ones as they are; reading into them changes the run."""
    prime(optimizer)
    named = dict(pair.named_parameters())
    found: dict[str, Tensor] = {**named, **dict(pair.named_buffers())}
    for name, parameter in named.items():
        found |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    found |= {
        f"optimizer.group{index}.step": group["step"]
        for index, group in enumerate(optimizer.param_groups)
        if "step" in group
    }
    return {name: value.detach() for name, value in found.items()}


def whole(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, gathered from all processes."""
    return {k: (v.full_tensor() if isinstance(v, DTensor) else v).detach().cpu().clone() for k, v in values.items()}


@torch.no_grad()
def put(values: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    """Whole tensors into a run, in place, each process taking its part."""
    for name, target in into.items():
        value = values[name]
        if isinstance(target, DTensor):
            local = value.to(target.device)
            target.copy_(distribute_tensor(local, target.device_mesh, target.placements))
        else:
            target.copy_(value)


def resample(values: dict[str, Tensor], grid: int, class_token: bool) -> dict[str, Tensor]:
    """A run's whole tensors for another resolution: the position table, and the optimiser's averages of it."""
    names = (_POSITIONS, f"optimizer.{_POSITIONS}.exp_avg", f"optimizer.{_POSITIONS}.exp_avg_sq")
    changed = {name: resample_positions(values[name], grid, class_token) for name in names if name in values}
    return values | changed


def save(
    folder: Path, values: dict[str, Tensor], progress: Progress, digest: str, fingerprint: str, here: World, keep: int
) -> Path:
    """Writes a checkpoint beside the older ones, then deletes those beyond the newest `keep`.

    Args:
        folder: of the run.
        values: of `tensors`.
        digest, fingerprint: of the configuration and of the data, compared at `load`.

    Raises:
        OutputError: the disk is full or the folder cannot be written, in any process; older checkpoints are intact.
    """
    target = folder / "checkpoints" / f"step-{progress.step:08d}"
    temporary = target.with_name(f".{target.name}.part")
    if (target / _STATE).exists():
        return target  # the same step of the same run
    error = None
    try:
        if here.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        if here.size > 1:
            dist.barrier()
        with _one_process_is_fine():
            save_distributed(values, checkpoint_id=temporary, no_dist=here.size == 1)
        if here.first:
            state = {"config": digest, "data": fingerprint, "processes": here.size, "progress": asdict(progress)}
            with atomic_write(temporary / _STATE) as file:
                file.write(json.dumps(state).encode())
            _replace(temporary, target)
    except (OSError, OutputError, RuntimeError, CheckpointException) as found:
        error = _reason(found)
    failed = [reason for reason in collect(error, here) if reason]
    if failed:
        if here.first:
            shutil.rmtree(temporary, ignore_errors=True)
        older = f"; the last good one is {found_last}" if (found_last := latest(folder)) else ""
        raise OutputError(f"{target}: the checkpoint could not be written ({failed[0]}){older}. Free some space.")
    if here.first:
        for old in _all(folder)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    return target


def _replace(temporary: Path, target: Path) -> None:
    for file in temporary.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    os.replace(temporary, target)


def _reason(error: BaseException) -> str:
    inner = error.__cause__ or error
    return getattr(inner, "strerror", None) or str(error).strip().splitlines()[-1]


def enter(folder: Path, resume: bool, here: World) -> Path | None:
    """Makes a run's folder ready, without what an interrupted save left; the newest checkpoint in it, if any.

    Raises:
        TrainingError: it holds a run already, and `resume` is False.
    """
    found = latest(folder)
    if found is not None and not resume:
        raise TrainingError(f"{folder}: holds a run already ({found.name}); resume it, or use another folder")
    collect(None, here)  # nobody writes before all have looked
    folder.mkdir(parents=True, exist_ok=True)
    if here.first:
        remove_parts(folder)
    return found


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run's folder."""
    found = _all(folder)
    return found[-1] if found else None


def _all(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"checkpoints/step-*/{_STATE}"))


def read_progress(checkpoint: Path, digest: str, fingerprint: str, processes: int) -> Progress:
    """Where a checkpoint stands.

    Raises:
        TrainingError: it is of another configuration, of other data, of another number of processes, or unreadable.
    """
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        progress = state["progress"] | {"data": tuple(state["progress"]["data"])}
        compared: Sequence[tuple[str, object, object, str]] = (
            (
                "data",
                state["data"],
                fingerprint,
                "the data set changed since it was written; restore it, or start anew",
            ),
            ("number of processes", state["processes"], processes, "start as many as before"),
            (  # the last, for the two above can change it
                "configuration",
                state["config"],
                digest,
                "resume with the recipe it was started with, or use another --out",
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{checkpoint}: not a readable checkpoint of a run ({error})") from error
    for what, found, expected, advice in compared:
        if found != expected:
            raise TrainingError(f"{checkpoint}: is of another {what} ({found}, expected {expected}); {advice}")
    return Progress(**progress)


def read_tensors(checkpoint: Path, into: dict[str, Tensor], here: World) -> None:
    """Weights and optimiser state of a checkpoint into a run, in place.

    Raises:
        TrainingError: files are missing or cut.
    """
    try:
        with _one_process_is_fine():
            load_distributed(into, checkpoint_id=checkpoint, no_dist=here.size == 1)
    except (OSError, RuntimeError, ValueError, CheckpointException) as error:
        raise TrainingError(
            f"{checkpoint}: cannot be read ({_reason(error)}); delete it to use the one before"
        ) from error


@contextlib.contextmanager
def _one_process_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def remove_parts(folder: Path) -> None:
    """Deletes what an interrupted save left."""
    for part in folder.glob("checkpoints/.*.part"):
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
