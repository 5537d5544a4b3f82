"""GPU: how fast is the image tower on CUDA, one image at a time and in large batches?"""

import gc
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
from benchmarks.common import Times, against_best, check_same, in_turn, least_cosine, milliseconds, verdict
from benchmarks.image import inputs
from benchmarks.names import GFLOP, TIMM_NAMES
from benchmarks.report import Section
from benchmarks.twins import BF16, draw, in_bf16
from midsight import checkpoints, pe

BATCHES = (1, 256)
ROUNDS = 11
GOAL, EAGER_GOAL = 1.0, 5.0  # to the best peer; to timm eager, at batch 1
SECONDS = 170.0  # no new case is begun after these
PEERS = ("timm eager", "timm inductor")
INDUCTOR = {1: "reduce-overhead"}  # by batch: the mode of torch.compile, else the default one
INTRO = (
    'T, S and B in bfloat16 on CUDA, wall time with the device waited for. midsight is `dtype="bf16"`: residual '
    "stream, norms and RoPE in float32; it gets float32 images. timm has bfloat16 weights "
    "and activations throughout and gets bfloat16 images; inductor is `torch.compile`, with CUDA graphs at batch 1 "
    "(`reduce-overhead`) and in its default mode at the large batch. open_clip runs timm's tower. First calls: what "
    "the first three calls took, compilation and capture included, Triton's cache being empty. Memory: what the first "
    "three calls held at their peak beside weights and input. Cosine: the lowest to timm in float32."
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
    start = time.perf_counter()
    for name in GFLOP:
        if time.perf_counter() - start > SECONDS:
            section.notes.append(f"**Not measured, for want of time: {name}.**")
            continue
        section.rows += measure(name, start)
        gc.collect()
        torch.cuda.empty_cache()
    return section


def device() -> str:
    """The GPU and the versions that matter to it."""
    versions = ", ".join(f"{name} {machine.installed(name)}" for name in ("torch", "triton", "timm"))
    return f"one {torch.cuda.get_device_name()}, {versions}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"


def measure(name: str, start: float) -> list[dict[str, str]]:
    """One row for each batch."""
    ours = pe.VisionTransformer.from_config(name).eval().requires_grad_(False)
    draw(ours)
    theirs = timm.create_model(TIMM_NAMES[name]).eval().requires_grad_(False)
    theirs.load_state_dict(checkpoints.to_timm(ours.state_dict()))
    ours, theirs, images = ours.cuda(), theirs.cuda(), inputs(name, max(BATCHES)).cuda()
    expected = waited(theirs, images[:8])()
    check_same(waited(ours, images[:8])().cpu(), expected.cpu(), f"{name} on CUDA")
    ours.pack(BF16)
    peer, rows = in_bf16(theirs), []
    del theirs
    for batch in BATCHES:
        if time.perf_counter() - start > SECONDS:
            continue
        calls = candidates(ours, peer, images[:batch], batch)
        firsts = {who: first_calls(call) for who, call in calls.items()}
        times = in_turn(calls, ROUNDS, time.perf_counter)
        cosines = {who: least_cosine(call()[:8].float().cpu(), expected[:batch].cpu()) for who, call in calls.items()}
        rows.append(row(name, batch, times, firsts, cosines))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def candidates(ours: nn.Module, peer: Any, images: Tensor, batch: int) -> dict[str, Callable[[], Tensor]]:
    """Passes over one batch by name, ours first."""
    torch._dynamo.reset()
    compiled = torch.compile(peer, mode=INDUCTOR.get(batch), dynamic=False)
    halves = images.to(BF16)
    return {
        "midsight": waited(ours, images),
        "timm eager": waited(peer, halves),
        "timm inductor": waited(compiled, halves),
    }


def waited(tower: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    """A pass in inference mode, with the device waited for."""

    def call() -> Tensor:
        with torch.inference_mode():
            found = tower(images)
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
    name: str, batch: int, times: Times, firsts: Mapping[str, First], cosines: Mapping[str, float]
) -> dict[str, str]:
    """One row of the table."""
    found = against_best(times, "midsight", PEERS)
    eager = against_best(times, "midsight", ["timm eager"])
    met = verdict(found, GOAL) + (f"; eager {verdict(eager, EAGER_GOAL)}" if batch == 1 else "")
    rates = {who: batch / float(np.median(value)) for who, value in times.items()}
    return {
        "Case": f"{name.removeprefix('PE-Core-')}, bf16, batch {batch}",
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
