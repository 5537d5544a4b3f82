"""Runs of the ablation: a list that can be stopped and gone on with, each run in one of several worker processes."""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation.data import Pictures, encoded, read
from benchmarks.ablation.measure import measure
from benchmarks.ablation.steps import budget, config_of
from midsight import pe
from midsight.api.loading import pick_device
from midsight.checkpoints import open_pretrained
from midsight.errors import ConfigError, OutputError, TrainingError
from midsight.files import Journal, available_cpus
from midsight.train.config import TrainConfig, resolve
from midsight.train.core import train_core

RUNS = "runs.jsonl"
GPU_JOBS = 8  # of small towers on one GPU, each of which is bound by launches

Run = dict[str, Any]  # one line of the file
Settings = dict[str, Any]  # a recipe as JSON has it


@dataclass(frozen=True)
class Options:
    """What is run, and how."""

    data: Path
    out: Path
    recipe: str = "core_ablation_small"
    steps: tuple[int, ...] = tuple(range(1, 10))
    seeds: tuple[int, ...] = (0, 1, 2)
    changes: tuple[str, ...] = ()  # of the recipe, KEY=VALUE
    device: str = "cpu"
    jobs: int = 0  # 0: one for each CPU, or GPU_JOBS
    seconds: float = float("inf")  # no run starts after so many

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ConfigError(f"--jobs {self.jobs}: expected how many runs at once, or 0 to go by the machine")
        if not self.seconds >= 0:
            raise ConfigError(f"--seconds {self.seconds:g}: expected a number from 0 on")

    @property
    def workers(self) -> int:
        cpus = max(1, int(available_cpus()))
        return self.jobs or (cpus if self.device == "cpu" else min(GPU_JOBS, cpus))


def run_all(options: Options, tell: Callable[[Run | str], None]) -> int:
    """Runs what is missing, all steps of the first seed before the next seed.

    Args:
        tell: called with each finished run, and with a line for each that failed.

    Returns:
        How many failed.

    Raises:
        ConfigError: the folder holds runs of other settings, a recipe that cannot be, or a device that is not there.
        InputError: no data.
        OutputError: the folder cannot be made.
        TrainingError: a worker died.
    """
    pick_device(options.device)
    configs = {(seed, step): configure(options, step, seed) for seed in options.seeds for step in options.steps}
    encoded(options.data)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{options.out}: could not be made ({error.strerror or error})") from error
    with Journal(options.out / RUNS) as journal:
        done = finished(journal, configs)
        waiting = [place for place in sorted(configs) if place not in done]
        failed = 0
        for result in _in_workers(options, [(configs[place], place) for place in waiting]):
            failed += isinstance(result, str)
            if not isinstance(result, str):
                journal.append(result)
            tell(result)
    return failed


def configure(options: Options, step: int, seed: int) -> TrainConfig:
    """The configuration of one run."""
    config = config_of(options.recipe, step, seed, options.changes)
    resolve(config)  # tells now what cannot be
    return replace(config, run=replace(config.run, device=options.device))


def finished(lines: Iterator[Run] | Journal, configs: dict[tuple[int, int], TrainConfig]) -> set[tuple[int, int]]:
    """(seed, step) of the runs that are there.

    Raises:
        ConfigError: one of them was run with other settings.
    """
    found = set()
    for line in lines:
        place = (line["seed"], line["step"])
        if place in configs and (other := differences(line["config"], settings(configs[place]), DEFAULTS)):
            raise ConfigError(
                f"step {place[1]}, seed {place[0]} was run with other settings ({'; '.join(other)}); name another --out"
            )
        found.add(place)
    return found


def settings(config: TrainConfig) -> Settings:
    """What decides the weights, as JSON has it; which settings those are, `TrainConfig.digest` says, too."""
    values: Settings = json.loads(json.dumps(asdict(config)))
    del values["run"], values["data"]["micro_batch"], values["data"]["workers"], values["data"]["source"]
    return values


DEFAULTS = settings(TrainConfig())


def differences(old: Settings, new: Settings, defaults: Settings) -> list[str]:
    """Settings that differ. One that `old` does not know yet counts as its default: runs outlive new settings."""
    found = []
    for key in sorted({*old, *new}):
        default = defaults.get(key)
        before, now = old.get(key, default), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += [
                f"{key}.{told}" for told in differences(before, now, default if isinstance(default, dict) else {})
            ]
        elif before != now:
            found.append(f"{key} {before}, now {now}")
    return found


def _in_workers(options: Options, jobs: Sequence[tuple[TrainConfig, tuple[int, int]]]) -> Iterator[Run | str]:
    """Results as they come; a run that fails is a line of text, and the others go on."""
    start, left, running = time.monotonic(), list(jobs), dict[Future[Run], tuple[int, int]]()
    workers = min(options.workers, len(left))
    if not workers:
        return
    threads = max(1, int(available_cpus()) // workers)
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    with ProcessPoolExecutor(workers, spawn, _begin, (options.data, options.device, threads)) as pool:
        while left or running:
            while left and len(running) < workers and time.monotonic() - start < options.seconds:
                config, place = left.pop(0)
                running[pool.submit(one, config, place)] = place
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seed, step = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise TrainingError(
                        "a worker died, as it does for want of memory; finished runs are kept, and the same command "
                        "goes on with them. Try fewer --jobs."
                    )
                yield f"step {step}, seed {seed}: {type(error).__name__}: {error}" if error else future.result()


_pictures: Pictures | None = None  # of this worker


def _begin(data: Path, device: str, threads: int) -> None:
    global _pictures
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    if device != "cpu":
        torch.set_float32_matmul_precision("high")  # TF32
    _pictures = read(data)


def one(config: TrainConfig, place: tuple[int, int]) -> Run:
    """Trains and measures once, in a worker.

    Raises:
        TrainingError: it diverged, or was told to stop.
    """
    assert _pictures is not None
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ablation-") as folder:
        outcome = train_core(
            config, folder, report=lambda record: records.append(dict(record)), resident=_pictures.resident()
        )
        if outcome.model is None:
            raise TrainingError(f"stopped at step {outcome.step} of the optimiser")
        model = load(outcome.model, config.run.device)
        figures = measure(model, _pictures)
    cost, where = budget(config), "cpu" if config.run.device == "cpu" else torch.cuda.get_device_name()
    what = {"seed": place[0], "step": place[1], "config": settings(config), "budget": asdict(cost)}
    log = [{key: record[key] for key in ("step", "loss", "image_size", "samples_per_second")} for record in records]
    more = {"seconds": loop_seconds(log, cost.batch), "device": where, "torch": torch.__version__, "log": log}
    return what | figures | more


def loop_seconds(log: Sequence[Run], batch: int) -> float:
    """Time of the optimiser's steps alone, without what surrounds them."""
    steps = [0, *(record["step"] for record in log)]
    pairs = zip(log, steps, strict=False)
    return sum((record["step"] - before) * batch / record["samples_per_second"] for record, before in pairs)


def load(folder: Path, device: str) -> pe.CLIP:
    """The trained pair."""
    found = open_pretrained(str(folder))
    assert found.text is not None
    model = pe.CLIP(found.vision, found.text)
    model.load_state_dict(dict(found.state_dict))
    return model.to(device)
