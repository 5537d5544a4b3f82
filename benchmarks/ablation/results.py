"""Finished runs as means with intervals.

A mean over seeds has a Student interval of 95 %. A change against the step before is paired by seed: the interval is
of the mean of the differences. With two seeds that interval knows one difference of noise and is nearly useless, so
seeds stand beside it one by one, and `Results.pooled` takes the noise from all steps together.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.ablation.measure import COLUMNS
from benchmarks.ablation.plots import Point
from midsight.errors import InputError

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5 %, 1 to 10 degrees of freedom
FEW = 3  # with fewer seeds, they are shown one by one in place of an interval

Run = dict[str, Any]  # one line of the file


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval; without one where there is one seed."""

    value: float
    half: float | None
    each: tuple[float, ...] = ()  # by seed

    @property
    def seeds(self) -> int:
        return len(self.each)

    @property
    def sure(self) -> bool:
        """The interval leaves out 0."""
        return self.half is not None and abs(self.value) > self.half

    def text(self, sign: bool = False) -> str:
        """Percent, as a table has it: with the interval, or with the seeds where they are few."""
        value, *each = (f"{100 * v:{'+' if sign else ''}.1f}" for v in (self.value, *self.each))
        if self.half is None:
            return value
        return f"{value} ({', '.join(each)})" if self.seeds < FEW else f"{value} ± {100 * self.half:.1f}"

    def point(self, pooled: bool = False) -> Point:
        """Percent, as a plot has it. The interval is left out where it comes of a `FEW` seeds and is not pooled."""
        each = tuple(100 * v for v in self.each)
        if self.half is None or (self.seeds < FEW and not pooled):
            return Point(100 * self.value, each=each)
        return Point(100 * self.value, 100 * (self.value - self.half), 100 * (self.value + self.half), each)


def mean(values: Sequence[float]) -> Mean:
    """Student's interval of a mean."""
    count = len(values)
    half = student(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else None
    return Mean(float(np.mean(values)), half, tuple(values))


def student(freedom: int) -> float:
    """97.5 % of Student's distribution."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = NormalDist().inv_cdf(0.975)  # Cornish and Fisher's expansion; right to 0.001 from 11 on
    parts = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(part / freedom**power for power, part in enumerate(parts, start=1))


class Results:
    """Runs by step and seed."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """
        Raises:
            InputError: there are none, or runs of different settings stand together.
        """
        self.runs = {(run["step"], run["seed"]): run for run in runs}
        if not self.runs:
            raise InputError("there are no finished runs to report; run the ablation first")
        for step in self.steps:
            kinds = {repr(run["budget"]) for (of, _), run in self.runs.items() if of == step}
            if len(kinds) > 1:
                raise InputError(f"step {step}: runs of different budgets stand together; use a folder for each")

    @property
    def steps(self) -> list[int]:
        return sorted({step for step, _ in self.runs})

    def of(self, step: int) -> list[Run]:
        """Runs of a step, by seed."""
        return [self.runs[key] for key in sorted(self.runs) if key[0] == step]

    def average(self, step: int) -> Mean:
        return mean([average_of(run) for run in self.of(step)])

    def column(self, step: int, name: str) -> Mean:
        return mean([run["columns"][name]["value"] for run in self.of(step)])

    def change(self, step: int, column: str | None = None) -> Mean | None:
        """Against the step before, over the seeds that both have; None where there are none."""
        seeds = [seed for of, seed in sorted(self.runs) if of == step and (step - 1, seed) in self.runs]

        def value(at: int, seed: int) -> float:
            run = self.runs[at, seed]
            return average_of(run) if column is None else float(run["columns"][column]["value"])

        return mean([value(step, seed) - value(step - 1, seed) for seed in seeds]) if seeds else None

    def noise(self) -> tuple[float, int] | None:
        """Deviation of a run's average once step and seed are taken off, with its degrees of freedom.

        Every step counts as equally noisy. None where fewer than two seeds have all steps.
        """
        seeds = [s for s in sorted({seed for _, seed in self.runs}) if all((n, s) in self.runs for n in self.steps)]
        freedom = (len(seeds) - 1) * (len(self.steps) - 1)
        if freedom < 1:
            return None
        found = np.array([[average_of(self.runs[step, seed]) for seed in seeds] for step in self.steps])
        left = found - found.mean(axis=0) - found.mean(axis=1, keepdims=True) + found.mean()
        return math.sqrt(float((left**2).sum()) / freedom), freedom

    def pooled(self, step: int) -> Mean | None:
        """The change against the step before, with an interval from the noise of all steps."""
        change, noise = self.change(step), self.noise()
        if change is None or noise is None:
            return change
        return replace(change, half=student(noise[1]) * noise[0] * math.sqrt(2 / change.seeds))

    def between(self, first: int, last: int) -> Mean | None:
        """Change of the average from one step to another, over the seeds that both have."""
        seeds = [seed for of, seed in sorted(self.runs) if of == last and (first, seed) in self.runs]
        pairs = [(self.runs[first, seed], self.runs[last, seed]) for seed in seeds]
        return mean([average_of(b) - average_of(a) for a, b in pairs]) if pairs else None

    def layers(self, step: int) -> list[Mean]:
        """kNN accuracy behind each block."""
        return [mean(values) for values in zip(*(run["layers"] for run in self.of(step)), strict=True)]

    def best_layer(self, step: int) -> int:
        """Place of the block whose mean over the seeds is highest."""
        return int(np.argmax([found.value for found in self.layers(step)]))

    def gain(self, step: int) -> Mean:
        """Of the best block over the last one, paired by seed; which is best, the other seeds say."""
        runs, gains = self.of(step), []
        for run in runs:
            others = [other["layers"] for other in runs if other is not run] or [run["layers"]]
            gains.append(run["layers"][int(np.mean(others, axis=0).argmax())] - run["layers"][-1])
        return mean(gains)

    def ratio(self, first: int, last: int) -> Mean | None:
        """Training time of one step over that of another, by seed."""
        seeds = [seed for of, seed in sorted(self.runs) if of == last and (first, seed) in self.runs]
        pairs = [(self.runs[first, seed]["seconds"], self.runs[last, seed]["seconds"]) for seed in seeds]
        return mean([b / a for a, b in pairs]) if pairs else None

    def losses(self, step: int) -> dict[int, float]:
        """Training loss at the end of each stage, by its resolution; a mean over the seeds."""
        ends = [{line["image_size"]: line["loss"] for line in run["log"]} for run in self.of(step)]
        return {size: float(np.mean([end[size] for end in ends])) for size in ends[0]}

    def seconds(self, step: int) -> float:
        """Median training time."""
        return float(np.median([run["seconds"] for run in self.of(step)]))


def average_of(run: Run) -> float:
    """Mean of the six columns."""
    return sum(run["columns"][name]["value"] for name in COLUMNS) / len(COLUMNS)
