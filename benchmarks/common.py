"""Measuring: CPU time, candidates in turn, ratios of paired rounds, work in a fresh process."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Call = Callable[[], object]
Clock = Callable[[], float]
Times = dict[str, npt.NDArray[np.float64]]  # candidate -> seconds per call, one entry for each round

ROUNDS = 9
SAMPLE_SECONDS = 0.1  # a sample repeats its call until it has lasted this long
ROOT = Path(__file__).parent.parent


def cpu_seconds() -> float:
    """CPU time so far of this process, all its threads, and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds_per_call(call: Call, clock: Clock = cpu_seconds, at_least: float = SAMPLE_SECONDS) -> float:
    """Mean of one sample: as many calls as it takes to last `at_least` seconds."""
    start, calls = clock(), 0
    while True:
        call()
        calls += 1
        elapsed = clock() - start
        if elapsed >= at_least:
            return elapsed / calls


def in_turn(candidates: Mapping[str, Call], rounds: int = ROUNDS, clock: Clock = cpu_seconds) -> Times:
    """Every candidate once per round, in the order given: A B C A B C. Noise of the machine then hits all of them.

    Each is called once before the first round, so that compilation, caches and allocation are behind it.
    """
    for call in candidates.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            samples[name].append(seconds_per_call(call, clock))
    return {name: np.array(values) for name, values in samples.items()}


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median of paired rounds, with their 10th and 90th percentile."""

    low: float
    median: float
    high: float
    rounds: int
    than: str

    def __str__(self) -> str:
        return f"{self.median:.2f}x {self.than} ({self.low:.2f}-{self.high:.2f}, {self.rounds} rounds)"


def ratio(ours: npt.ArrayLike, theirs: npt.ArrayLike, than: str) -> Ratio:
    """Round by round, their time over ours.

    Raises:
        ValueError: times that are not paired.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"paired rounds need two lists of one length, got shapes {a.shape} and {b.shape}")
    low, median, high = np.percentile(b / a, (10, 50, 90))
    return Ratio(float(low), float(median), float(high), a.size, than)


def against_best(times: Times, ours: str, peers: Sequence[str]) -> Ratio:
    """Our ratio to the peer with the lowest median."""
    best = min(peers, key=lambda name: float(np.median(times[name])))
    return ratio(times[ours], times[best], best)


def verdict(found: Ratio | float, at_least: float | None = None, at_most: float | None = None) -> str:
    """A goal and whether the median reaches it, as it stands in the table."""
    value = found.median if isinstance(found, Ratio) else found
    if at_least is not None:
        return f">= {at_least:g}x, " + ("met" if value >= at_least else "**missed**")
    if at_most is not None:
        return f"<= {at_most:g}x, " + ("met" if value <= at_most else "**missed**")
    return "-"


def milliseconds(times: npt.NDArray[np.float64], per: int = 1) -> str:
    """Median per item, with the unit."""
    value = 1000 * float(np.median(times)) / per
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def beside(times: Times, ours: str, peer: str, per: int = 1) -> str:
    """Medians per item of ours and of a peer."""
    return f"{milliseconds(times[ours], per)} ({peer} {milliseconds(times[peer], per)})"


@dataclass(frozen=True)
class Spent:
    """What a process of its own took, from its start to its end."""

    cpu: float  # seconds, with all threads
    wall: float  # seconds
    peak: float  # resident memory at its highest, MB
    value: Any  # what it reported


def fresh(task: str, *arguments: Any) -> Spent:
    """Run `task` ("module:function") in a fresh interpreter, as users' own programs run.

    The function gets `arguments` and returns what JSON can hold. The peak is the kernel's VmHWM, read at the end:
    `ru_maxrss` would start at the parent's memory.

    Raises:
        RuntimeError: the process failed; with what it printed.
    """
    module, function = task.split(":")
    code = (
        "import json, sys\n"
        f"from {module} import {function}\n"
        f"value = {function}(*json.loads(sys.argv[1]))\n"
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(json.dumps([value, int(peak) / 1000]))\n"
    )
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{task}{arguments} failed:\n{done.stderr[-3000:]}")
    value, peak = json.loads(done.stdout.splitlines()[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, wall, peak, value)


def relative_error(found: Any, expected: Any) -> float:
    """Largest over the rows of |found - expected| / |expected| (Euclidean), in float64."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float((np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)).max())


def least_cosine(found: Any, expected: Any) -> float:
    """Lowest over the rows, in float64."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def check_same(found: Any, expected: Any, what: str) -> None:
    """Refuse to time models that do not compute the same thing.

    Raises:
        RuntimeError: outputs that say nothing (near zero), or a cosine not above 0.999999.
    """
    expected = np.asarray(expected, np.float64)
    if not expected.std() > 1e-2:
        raise RuntimeError(f"{what}: outputs near zero ({expected.std():.1e}), where any two models agree")
    cosine = least_cosine(found, expected)
    if not cosine > 0.999999:
        raise RuntimeError(f"{what}: cosine {cosine:.7f}, so these are not the same weights and inputs")
