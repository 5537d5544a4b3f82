"""GPU: how fast is the image tower on CUDA, one image at a time and in large batches?"""

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Times, against_best, check_same, in_turn, least_cosine, verdict
from benchmarks.image import inputs
from benchmarks.names import GFLOP
from benchmarks.report import Section
from benchmarks.twins import BF16, Twins, in_bf16

BATCHES = (1, 64, 256)
ROUNDS = 15
GOAL = 1.0
INTRO = (
    "T, S and B in bfloat16 on CUDA, wall time with the device waited for, against timm eager and under "
    "`torch.compile` (inductor, CUDA graphs at batch 1). Compilation is behind it when timing starts, and told "
    "apart."
)


def run() -> Section:
    """All sizes, or the plain word that there is no GPU."""
    section = Section("GPU", INTRO)
    if not torch.cuda.is_available():
        section.notes.append(
            "**Not run: this machine has no CUDA device.** Nothing is known here about speed on a GPU."
        )
        return section
    for name in GFLOP:
        section.rows += measure(name)
        gc.collect()
        torch.cuda.empty_cache()
    return section


def measure(name: str) -> list[dict[str, str]]:
    """Batch 1, and the batch at which each candidate is fastest per image."""
    pair = Twins(name)
    images = inputs(name, max(BATCHES)).cuda()
    towers = candidates(pair)
    expected = on_cuda(pair.timm.cuda(), images[:8])()
    check_same(on_cuda(pair.ours.visual.cuda(), images[:8])().cpu(), expected.cpu(), f"{name} on CUDA")
    seconds, times = {}, {}
    for batch in BATCHES:
        calls = {who: on_cuda(tower, images[:batch]) for who, tower in towers(batch).items()}
        start = time.perf_counter()
        calls["timm inductor"]()
        seconds[batch] = time.perf_counter() - start
        times[batch] = in_turn(calls, ROUNDS, time.perf_counter)
        cosine = least_cosine(calls["midsight"]().float().cpu()[:8], expected.cpu()[:batch])
    rows = [row(name, "batch 1", times[1], cosine)]
    best = {who: min((times[batch][who] / batch for batch in BATCHES), key=np.median) for who in times[1]}
    rows.append(row(name, "best batch", best, cosine))
    for one in rows:
        one["Peak memory"] = f"{torch.cuda.max_memory_allocated() / 1e6:.0f} MB on the device, all candidates together"
        one["Compilation"] = ", ".join(f"{value:.0f} s at batch {batch}" for batch, value in seconds.items())
    return rows


def candidates(pair: Twins) -> Callable[[int], dict[str, Any]]:
    """By batch size: the towers, each with bfloat16 weights, ours as `midsight.load(dtype="bf16")` makes it."""
    ours = pair.packed(torch.float32).cuda().pack(BF16).visual
    timm = in_bf16(pair.timm).cuda()
    mode = {1: "reduce-overhead"}

    def towers(batch: int) -> dict[str, Any]:
        torch._dynamo.reset()
        compiled = torch.compile(timm, mode=mode.get(batch, "max-autotune-no-cudagraphs"), dynamic=False)
        peers = {"timm eager": timm, "timm inductor": compiled}
        return {"midsight": ours} | {who: lambda x, peer=peer: peer(x.to(BF16)) for who, peer in peers.items()}

    return towers


def on_cuda(tower: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    """A pass in inference mode, with the device waited for."""

    def call() -> Tensor:
        with torch.inference_mode():
            found = tower(images)
        torch.cuda.synchronize()
        return found

    return call


def row(name: str, case: str, times: Times, cosine: float) -> dict[str, str]:
    """One row of the table; `times` are per image."""
    found = against_best(times, "midsight", ["timm eager", "timm inductor"])
    rates = {who: 1 / float(np.median(value)) for who, value in times.items()}
    eager = float(np.median(times["timm eager"]) / np.median(times["midsight"]))
    return {
        "Case": f"{name.removeprefix('PE-Core-')}, bf16, {case}",
        "Speed": str(found),
        "Goal": verdict(found, GOAL),
        "To timm eager": f"{eager:.2f}x",
        "Images per second": f"{rates['midsight']:.0f} ({found.than} {rates[found.than]:.0f})",
        "Cosine": f"{cosine:.6f}",
    }
