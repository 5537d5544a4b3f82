"""Whether an exported tower gives the numbers of the eager one, and how long each takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from midsight.errors import ExportError
from midsight.export.config import ExportConfig
from midsight.export.runner import Array, Runner
from midsight.export.towers import Part


@dataclass(frozen=True)
class Agreement:
    """One output for one input, exported against eager."""

    input: tuple[int, ...]
    output: str
    max_error: float  # absolute
    relative_error: float  # worst vector
    cosine: float  # worst vector


@dataclass(frozen=True)
class Latency:
    """Wall time for one input. `ratio` is eager over exported, so above 1 the export is faster."""

    input: tuple[int, ...]
    milliseconds: float
    eager_milliseconds: float
    ratio: float  # median of paired rounds
    low: float  # 10th percentile
    high: float  # 90th percentile
    rounds: int
    threads: int

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x eager ({self.low:.2f}-{self.high:.2f}, {self.rounds} rounds)"


def compare(found: Array, expected: Array, shape: tuple[int, ...], output: str) -> Agreement:
    """How far two outputs are apart; the vectors of maps (B, C, h, w) lie along C, all others along the last axis."""
    if found.shape != expected.shape:
        raise ExportError(f"{output}: the export gives the shape {found.shape}, eager {expected.shape}")
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if a.ndim == 4:
        a, b = np.moveaxis(a, 1, -1), np.moveaxis(b, 1, -1)
    lengths = np.linalg.norm(b, axis=-1)
    relative = np.linalg.norm(a - b, axis=-1) / lengths
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / lengths
    return Agreement(shape, output, float(abs(a - b).max()), float(relative.max()), float(cosine.min()))


def check(part: Part, runner: Runner, inputs: list[Tensor], config: ExportConfig, name: str) -> list[Agreement]:
    """Exported against eager for every input.

    Raises:
        ExportError: a cosine or a relative error beyond the bounds of `config`; also NaN.
    """
    found = []
    for x in inputs:
        with torch.inference_mode():
            expected = part.module(x).numpy()
        try:
            ours = runner(x.numpy())
        except Exception as error:
            raise ExportError(f"{name}: does not run on an input of {tuple(x.shape)}: {error}") from error
        agreement = compare(ours, expected, tuple(x.shape), part.card.output.name)
        good = agreement.cosine >= config.min_cosine and agreement.relative_error <= config.max_relative_error
        if not good:
            raise ExportError(
                f"{name}: {agreement.output} of an input of {agreement.input} differs from eager: cosine "
                f"{agreement.cosine:.7f} (at least {config.min_cosine}), relative error {agreement.relative_error:.1e} "
                f"(at most {config.max_relative_error:g}). Nothing was kept; take another format."
            )
        found.append(agreement)
    return found


def latency(part: Part, runner: Runner, x: Tensor, config: ExportConfig) -> Latency:
    """Exported and eager in turn, after one call of each; noise of the machine then hits both."""
    array = x.numpy()

    @torch.inference_mode()
    def eager() -> None:
        part.module(x)

    def ours() -> None:
        runner(array)

    eager()
    ours()
    start, pairs = time.perf_counter(), []
    for done in range(config.rounds):
        if done >= 3 and time.perf_counter() - start > config.budget_seconds:
            break
        pairs.append((_seconds(ours, config.sample_seconds), _seconds(eager, config.sample_seconds)))
    times = np.array(pairs)
    low, median, high = np.percentile(times[:, 1] / times[:, 0], (10, 50, 90))
    mine, theirs = 1000 * np.median(times, axis=0)
    threads = torch.get_num_threads()
    return Latency(
        tuple(x.shape), float(mine), float(theirs), float(median), float(low), float(high), len(pairs), threads
    )


def _seconds(call: Callable[[], None], at_least: float) -> float:
    """Mean of as many calls as it takes to last `at_least` seconds."""
    start, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return elapsed / calls
