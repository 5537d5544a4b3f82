"""Whether an exported file gives the numbers of the eager model, and how long each takes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from midsight.errors import ExportError
from midsight.export.config import ExportConfig
from midsight.export.match import pair_up
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
    same: float | None = None  # share of pixels with the same class, or of detections that are found again
    pairs: int | None = None  # of detections, which the errors are of


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
    a, b = _doubles(found, expected, output)
    if a.ndim == 4:
        a, b = np.moveaxis(a, 1, -1), np.moveaxis(b, 1, -1)
    lengths = np.linalg.norm(b, axis=-1)
    relative = np.linalg.norm(a - b, axis=-1) / lengths
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / lengths
    return Agreement(shape, output, float(abs(a - b).max()), float(relative.max()), float(cosine.min()))


def compare_pixels(found: Array, expected: Array, shape: tuple[int, ...], output: str) -> Agreement:
    """How far logits (B, K, H, W) or depths (B, 1, H, W) are apart.

    Logits of a pixel may all be near zero, and depth has one number for each. So the relative error is that of the
    worst pixel against the picture's mean length of a pixel's vector, and the cosine is that of a picture's numbers.
    """
    a, b = _doubles(found, expected, output)
    length = np.linalg.norm(b, axis=1).mean(axis=(1, 2))  # B
    relative = np.linalg.norm(a - b, axis=1).max(axis=(1, 2)) / length
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    cosine = (flat_a * flat_b).sum(-1) / np.linalg.norm(flat_a, axis=-1) / np.linalg.norm(flat_b, axis=-1)
    same = float((a.argmax(axis=1) == b.argmax(axis=1)).mean()) if a.shape[1] > 1 else None
    return Agreement(shape, output, float(abs(a - b).max()), float(relative.max()), float(cosine.min()), same)


def compare_detections(
    found: Mapping[str, Array], expected: Mapping[str, Array], shape: tuple[int, ...]
) -> list[Agreement]:
    """How far tables of detections are apart; a row of one is held against the row of the other that it is.

    Detections that only one of the two has, with a score beside the threshold or a box beside the limit of the
    suppression, count in `same`. Relative errors are of boxes against the input's longer side, of scores and masks
    against 1; the cosine is that of all their numbers.
    """
    first, second, same = pair_up(found, expected)
    agreements = []
    for name in (key for key in expected if key != "labels"):
        a, b = _doubles(found[name], expected[name], name)
        a, b = a[first], b[second]
        scale = max(shape[-2:]) if name == "boxes_xyxy" else 1
        error = float(abs(a - b).max(initial=0))
        cosine = float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300)) if a.any() else 1.0
        agreements.append(Agreement(shape, name, error, error / scale, cosine, same, len(first[0])))
    return agreements


def check(part: Part, runner: Runner, inputs: list[Tensor], config: ExportConfig, name: str) -> list[Agreement]:
    """Exported against eager for every input.

    Raises:
        ExportError: a cosine or a relative error beyond the bounds of `config`; also NaN.
    """
    agreements = []
    for x in inputs:
        expected = {key: value.numpy() for key, value in part.expected(x).items()}
        try:
            found = runner.run(x.numpy())
        except Exception as error:
            raise ExportError(f"{name}: does not run on an input of {tuple(x.shape)}: {error}") from error
        for agreement in _compared(part, found, expected, tuple(x.shape)):
            _refuse_beyond(agreement, config, name)
            agreements.append(agreement)
    return agreements


def _compared(
    part: Part, found: Mapping[str, Array], expected: Mapping[str, Array], shape: tuple[int, ...]
) -> list[Agreement]:
    if part.card.gives == "detections":
        return compare_detections(found, expected, shape)
    name = part.card.output.name
    function = compare if part.card.head is None else compare_pixels
    return [function(found[name], expected[name], shape, name)]


def _refuse_beyond(agreement: Agreement, config: ExportConfig, name: str) -> None:
    masks = agreement.output == "masks"  # of a box that differs by a hair, cells at the edge differ by more
    least = config.min_mask_cosine if masks else config.min_cosine
    near = masks or agreement.relative_error <= config.max_relative_error
    same = agreement.same is None or agreement.same >= config.min_same
    if agreement.cosine >= least and near and same:
        return
    also = "" if agreement.same is None else f", the same {agreement.same:.2%} (at least {config.min_same:.0%})"
    raise ExportError(
        f"{name}: {agreement.output} of an input of {agreement.input} differs from eager: cosine "
        f"{agreement.cosine:.7f} (at least {least}), relative error {agreement.relative_error:.1e} "
        f"(at most {config.max_relative_error:g}){also}. Nothing was kept; take another format."
    )


def latency(part: Part, runner: Runner, x: Tensor, config: ExportConfig) -> Latency:
    """Exported and eager in turn, after one call of each; noise of the machine then hits both."""
    array = x.numpy()

    def eager() -> None:
        part.expected(x)

    def ours() -> None:
        runner.run(array)

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


def _doubles(found: Array, expected: Array, output: str) -> tuple[Array, Array]:
    if found.shape != expected.shape:
        raise ExportError(f"{output}: the export gives the shape {found.shape}, eager {expected.shape}")
    return np.asarray(found, np.float64), np.asarray(expected, np.float64)


def _seconds(call: Callable[[], None], at_least: float) -> float:
    """Mean of as many calls as it takes to last `at_least` seconds."""
    start, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return elapsed / calls
