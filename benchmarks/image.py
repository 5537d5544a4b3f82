"""Image tower: how fast do pixels become embeddings?"""

import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine, twins
from benchmarks.common import Call, against_best, beside, fresh, least_cosine, relative_error, verdict
from benchmarks.names import GFLOP, SIZES
from benchmarks.report import Section
from benchmarks.twins import BF16, Twins

BATCHES = (1, 8)
ROUNDS = 7
Candidates = dict[str, Callable[[Tensor], Call]]  # name -> what makes a call out of a batch
GOALS = {"fp32": 1.1, "bf16": 1.3}
ERROR = 5e-6
INTRO = (
    'T, S and B on random images. fp32 is midsight\'s default; bf16 is `dtype="bf16"`, linear maps and attention '
    "in bfloat16 with the residual stream in float32, against timm and open_clip with bfloat16 weights and under "
    f"autocast. Error: largest relative error of an embedding in fp32 (goal: under {ERROR:g}), lowest cosine to "
    "timm's fp32 in bf16. MFU: FLOP per second as a part of what a packed oneDNN matrix product reached in the "
    "same rounds."
)


def run() -> Section:
    """All sizes, precisions and batch sizes."""
    machine.pin()
    section = Section("Image tower", INTRO)
    for name in GFLOP:
        pair = Twins(name)
        images = inputs(name, max(BATCHES))
        pair.check_images(images)
        peaks = memory(pair)
        gc.collect()  # packed towers refer to themselves
        for precision in GOALS:
            candidates = fp32(pair) if precision == "fp32" else bf16(pair)
            for batch in BATCHES:
                row = measure(pair, precision, candidates, images[:batch])
                row["Peak memory"] = peaks[precision]
                section.rows.append(row)
                print(row, file=sys.stderr, flush=True)
    section.notes.append(
        f"Peak memory is that of one pass over a batch of {max(BATCHES)}, weights read from a safetensors file."
    )
    return section


def inputs(name: str, batch: int) -> Tensor:
    """Noise in [-1, 1], float32 (B, 3, S, S)."""
    return torch.rand(batch, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(1)) * 2 - 1


def fp32(pair: Twins) -> Candidates:
    """Midsight and its peers, by name."""
    ours = pair.packed(torch.float32).visual
    return {
        "midsight": lambda x: twins.inference(ours, x),
        "timm": lambda x: twins.inference(pair.timm, x),
        "open_clip": lambda x: twins.inference(pair.open_clip.encode_image, x),
    }


def bf16(pair: Twins) -> Candidates:
    """As `fp32`; peers with bfloat16 weights get bfloat16 images."""
    ours, timm, open_clip = pair.packed(BF16).visual, twins.in_bf16(pair.timm), twins.in_bf16(pair.open_clip)
    return {
        "midsight": lambda x: twins.inference(ours, x),
        "timm bf16 weights": lambda x: twins.inference(timm, x.to(BF16)),
        "timm autocast": lambda x: twins.autocast(pair.timm, x),
        "open_clip bf16 weights": lambda x: twins.inference(open_clip.encode_image, x.to(BF16)),
        "open_clip autocast": lambda x: twins.autocast(pair.open_clip.encode_image, x),
    }


def measure(pair: Twins, precision: str, candidates: Candidates, images: Tensor) -> dict[str, str]:
    """One row of the table."""
    calls = {who: make(images) for who, make in candidates.items()}
    dtype = torch.float32 if precision == "fp32" else BF16
    times, probe, remark = machine.probed(calls, dtype, ROUNDS)
    peers = [who for who in calls if who != "midsight"]
    found = against_best(times, "midsight", peers)
    return {
        "Case": f"{pair.name.removeprefix('PE-Core-')}, {precision}, batch {len(images)}",
        "Speed": f"{found}{remark}",
        "Goal": verdict(found, GOALS[precision]),
        "Per image": beside(times, "midsight", found.than, len(images)),
        "MFU": f"{GFLOP[pair.name] * 1e9 * len(images) / float(np.median(times['midsight'])) / probe:.0%}",
        "Error": error(pair, precision, calls["midsight"]().float(), images),
    }


def error(pair: Twins, precision: str, found: Tensor, images: Tensor) -> str:
    """Beside every speed, what it costs."""
    expected = twins.inference(pair.timm, images)()
    if precision == "bf16":
        return f"cosine {least_cosine(found, expected):.6f}"
    value = relative_error(found, expected)
    return f"{value:.1e}" + ("" if value < ERROR else " **above the goal**")


def memory(pair: Twins) -> dict[str, str]:
    """By precision: peaks of processes that read the tower and embed one batch."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        pair.save(Path(folder))
        for precision in GOALS:
            arguments = (folder, pair.name, precision, max(BATCHES))
            ours, theirs = (fresh(f"benchmarks.child:tower_{who}", *arguments).peak for who in ("midsight", "timm"))
            found[precision] = f"{ours:.0f} MB (timm {theirs:.0f} MB)"
    return found
