"""GPU: how fast is the image tower on CUDA, one image at a time and in large batches?"""

import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.common import (
    Times,
    against_best,
    beside,
    check_same,
    fresh,
    in_turn,
    least_cosine,
    milliseconds,
    ratio,
    verdict,
)
from benchmarks.image import inputs
from benchmarks.names import GFLOP, TIMM_NAMES
from benchmarks.report import Section
from benchmarks.twins import BF16, draw, in_bf16
from midsight import checkpoints, pe
from midsight.pe import gpu

CASES = ((1, False), (1, True), (256, False))  # batch, and whether midsight makes CUDA graphs
SWEEP = (1, 8, 64)  # batches with and without graphs
ROUNDS, SWEEP_ROUNDS = 11, 5
CHECKED = 8  # images compared
GOAL, EAGER_GOAL = 1.0, 5.0  # to the best peer; to timm eager, with graphs
SECONDS = 420.0  # no new case is begun after these
PEERS = ("timm eager", "timm inductor")
INDUCTOR = {1: "reduce-overhead"}  # by batch: the mode of torch.compile, else the default one
INTRO = (
    'T, S and B in bfloat16 on CUDA, wall time with the device waited for. midsight is `dtype="bf16"`: residual '
    "stream, norms and RoPE in float32; it gets float32 images; `graphs=True` where the case says so. timm has "
    "bfloat16 weights and activations throughout and gets bfloat16 images; inductor is `torch.compile`, with CUDA "
    "graphs at batch 1 (`reduce-overhead`) and in its default mode at the large batch. open_clip runs timm's tower. "
    "Each case has a process of its own. First calls: what the first three calls took, with compilation, as far as the "
    "caches on disk did not spare it, and capture. Memory: what they held at their peak beside weights and input. "
    "Cosine: the lowest to timm in float32."
)


@dataclass(frozen=True)
class First:
    """What the first three calls of a candidate took."""

    seconds: float
    megabytes: float


def run() -> Section:
    """All sizes, or the plain word that there is no GPU."""
    section = Section("GPU", INTRO)
    if not torch.cuda.is_available():
        section.notes.append(
            "**Not run: this machine has no CUDA device.** Nothing is known here about speed on a GPU."
        )
        return section
    section.notes.append(f"Measured on {device()}.")
    until = time.perf_counter() + SECONDS
    for name in GFLOP:
        section.notes.append(sweep_note(name, until))
    section.rows = [attempt(name, batch, graphs, until) for name in GFLOP for batch, graphs in CASES]
    return section


def attempt(name: str, batch: int, graphs: bool, until: float) -> dict[str, str]:
    """One row, measured by a process of its own: an error of CUDA leaves nothing in its process that could go on."""
    if time.perf_counter() > until:
        found = {"Speed": "not measured, for want of time"}
    else:
        try:
            found = fresh("benchmarks.gpu:measure", name, batch, graphs).value
        except RuntimeError as error:
            found = {"Speed": f"**failed**: {last_words(error)}"}
    found = {"Case": case(name, batch, graphs), "Goal": "**not measured**"} | found
    print(found, file=sys.stderr, flush=True)
    return found


def sweep_note(name: str, until: float) -> str:
    """What CUDA graphs are worth by batch, as a line of text."""
    if time.perf_counter() > until:
        return f"Graphs of {name}: not measured, for want of time."
    try:
        found = fresh("benchmarks.gpu:sweep", name).value
    except RuntimeError as error:
        return f"Graphs of {name}: **failed**: {last_words(error)}."
    note = f"midsight with graphs to without, {name}, bf16: {'; '.join(found)}."
    print(note, file=sys.stderr, flush=True)
    return note


def last_words(error: Exception) -> str:
    """The line of an error's text that names it, fit for a cell of a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (named or lines)[-1].replace("|", "/")[:200]


def case(name: str, batch: int, graphs: bool) -> str:
    """The name of a row."""
    return f"{name.removeprefix('PE-Core-')}, bf16, batch {batch}" + (", graphs" if graphs else "")


def device() -> str:
    """The GPU and the versions that matter to it."""
    versions = ", ".join(f"{name} {machine.installed(name)}" for name in ("torch", "triton", "timm"))
    return f"one {torch.cuda.get_device_name()}, {versions}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"


def measure(name: str, batch: int, graphs: bool) -> dict[str, str]:
    """One row but for its name."""
    ours = tower(name)
    theirs = timm.create_model(TIMM_NAMES[name]).eval().requires_grad_(False)
    theirs.load_state_dict(checkpoints.to_timm(ours.state_dict()))
    ours, theirs, images = ours.cuda(), theirs.cuda(), inputs(name, max(batch, CHECKED)).cuda()
    expected = waited(theirs, images[:CHECKED])()
    check_same(waited(ours, images[:CHECKED])().cpu(), expected.cpu(), f"{name} on CUDA")
    ours.pack(BF16, graphs)
    peer = in_bf16(theirs)
    del theirs
    calls = candidates(ours, peer, images[:batch], batch)
    firsts = {who: first_calls(call) for who, call in calls.items()}
    times = in_turn(calls, ROUNDS, time.perf_counter)
    cosines = {who: least_cosine(call()[:CHECKED].float().cpu(), expected[:batch].cpu()) for who, call in calls.items()}
    return row(batch, graphs, times, firsts, cosines)


def sweep(name: str) -> list[str]:
    """Batch by batch, how much faster replays are than launches, also where a graph would not be made."""
    gpu.MAX_FLOP = math.inf
    towers = {"graphs": tower(name).cuda().pack(BF16, graphs=True), "launches": tower(name).cuda().pack(BF16)}
    found = []
    for batch in SWEEP:
        images = inputs(name, batch).cuda()
        calls = {who: waited(one, images) for who, one in towers.items()}
        for call in calls.values():
            first_calls(call)
        times = in_turn(calls, SWEEP_ROUNDS, time.perf_counter)
        gain = ratio(times["graphs"], times["launches"], "launches")
        cosine = least_cosine(*(call().float().cpu() for call in calls.values()))
        work = f"{batch * GFLOP[name] / 1e3:.2g} TFLOP, cosine {cosine:.6f}"
        found.append(f"batch {batch} {gain}, {beside(times, 'graphs', 'launches')}, {work}")
    return found


def tower(name: str) -> pe.VisionTransformer:
    """Our tower with every weight drawn anew."""
    model = pe.VisionTransformer.from_config(name).eval().requires_grad_(False)
    draw(model)
    return model


def candidates(ours: nn.Module, peer: Any, images: Tensor, batch: int) -> dict[str, Callable[[], Tensor]]:
    """Passes over one batch by name, ours first."""
    compiled = torch.compile(peer, mode=INDUCTOR.get(batch), dynamic=False)
    halves = images.to(BF16)
    return {
        "midsight": waited(ours, images),
        "timm eager": waited(peer, halves),
        "timm inductor": waited(compiled, halves),
    }


def waited(function: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    """A pass in inference mode, with the device waited for."""

    def call() -> Tensor:
        with torch.inference_mode():
            found = function(images)
        torch.cuda.synchronize()
        return found

    return call


def first_calls(call: Callable[[], Tensor]) -> First:
    """The first three calls: eager, captured and replayed where there are graphs."""
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    for _ in range(3):
        call()
    return First(time.perf_counter() - start, (torch.cuda.max_memory_allocated() - before) / 1e6)


def row(
    batch: int, graphs: bool, times: Times, firsts: Mapping[str, First], cosines: Mapping[str, float]
) -> dict[str, str]:
    """One row of the table, but for its name."""
    found = against_best(times, "midsight", PEERS)
    eager = against_best(times, "midsight", ["timm eager"])
    met = verdict(found, GOAL) + (f"; eager {verdict(eager, EAGER_GOAL)}" if graphs else "")
    rates = {who: batch / float(np.median(value)) for who, value in times.items()}
    return {
        "Speed": str(found),
        "Goal": met,
        "To timm eager": f"{eager.median:.2f}x ({eager.low:.2f}-{eager.high:.2f})",
        "A pass": each({who: milliseconds(value) for who, value in times.items()}),
        "Images per second": each({who: f"{value:,.0f}" for who, value in rates.items()}),
        "First calls": each({who: f"{value.seconds:.1f} s" for who, value in firsts.items()}),
        "Memory": each({who: f"{value.megabytes:,.0f} MB" for who, value in firsts.items()}),
        "Cosine": each({who: f"{value:.6f}" for who, value in cosines.items()}),
    }


def each(values: Mapping[str, str]) -> str:
    """Ours first, the peers behind it."""
    ours, *peers = values.items()
    return f"{ours[1]} ({', '.join(f'{who} {value}' for who, value in peers)})"
