"""Finished runs as means with intervals.

A mean over seeds has a Student interval of 95 %. A change against the step before is paired by seed: the interval is
of the mean of the differences.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.ablation.measure import COLUMNS
from benchmarks.ablation.plots import Point
from midsight.errors import InputError

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5 %, 1 to 10 degrees of freedom

Run = dict[str, Any]  # one line of the file


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval; without one where there is one seed."""

    value: float
    half: float | None
    seeds: int

    @property
    def sure(self) -> bool:
        """The interval leaves out 0."""
        return self.half is not None and abs(self.value) > self.half

    def text(self, sign: bool = False) -> str:
        """Percent, as a table has it."""
        value = f"{100 * self.value:+.1f}" if sign else f"{100 * self.value:.1f}"
        return value if self.half is None else f"{value} ± {100 * self.half:.1f}"

    def point(self) -> Point:
        """Percent, as a plot has it."""
        ends = (None, None) if self.half is None else (self.value - self.half, self.value + self.half)
        return Point(100 * self.value, *(None if end is None else 100 * end for end in ends))


def mean(values: Sequence[float]) -> Mean:
    """Student's interval of a mean."""
    count = len(values)
    half = student(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else None
    return Mean(float(np.mean(values)), half, count)


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

    def seconds(self, step: int) -> float:
        """Median training time."""
        return float(np.median([run["seconds"] for run in self.of(step)]))


def average_of(run: Run) -> float:
    """Mean of the six columns."""
    return sum(run["columns"][name]["value"] for name in COLUMNS) / len(COLUMNS)
