"""A busy machine: what does the default thread policy cost where other programs compute, too?"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Call, Ratio, cpu_seconds, fresh, ratio, seconds_per_call, verdict
from benchmarks.report import Section
from benchmarks.twins import Twins

NAME = "PE-Core-T16-384"
OTHERS, IMAGES, ROUNDS = 4, 8, 7
GOAL = 1.3  # at most so many times the CPU time of one thread
INTRO = (
    f"T, fp32, {IMAGES} images from arrays through `embed_images`, while {OTHERS} other processes compute without "
    "end; no CPU is set aside. CPU time of all threads, against midsight with `threads=1` before the others "
    "start, in the same round. timm with torch's default number of threads shows what there is to avoid. Peak "
    "memory: see the other questions."
)


def run() -> Section:
    """Everything in one process of its own, in which no variable limits the threads."""
    section = Section("Busy machine", INTRO)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        with tempfile.TemporaryDirectory() as folder:
            Twins(NAME).save(Path(folder))
            seen = fresh("benchmarks.busy:rounds", folder)
    finally:
        os.environ.update(kept)
    cpu = {who: np.array(values) for who, values in seen.value["cpu"].items()}
    wall = {who: float(np.median(values)) / IMAGES for who, values in seen.value["wall"].items()}
    for who, goal in (("default", GOAL), ("one thread", None), ("timm", None)):
        found = ratio(cpu["quiet, one thread"], cpu[f"busy, {who}"], "the CPU time")
        section.rows.append(
            {
                "Case": f"T16-384, {OTHERS} busy processes, {'timm, default threads' if who == 'timm' else who}",
                "Speed": str(found),
                "Goal": verdict(found, at_most=goal),
                "CPU time per image": f"{1000 * np.median(cpu[f'busy, {who}']) / IMAGES:.0f} ms",
                "Wall time per image": f"{1000 * wall[f'busy, {who}']:.0f} ms",
            }
        )
    quiet = 1000 * float(np.median(cpu["quiet, one thread"])) / IMAGES
    alone: Ratio = ratio(cpu["quiet, one thread"], cpu["quiet, default"], "the CPU time")
    section.notes += [
        f"Before the others start, per image: one thread {quiet:.0f} ms of CPU time and "
        f"{1000 * wall['quiet, one thread']:.0f} ms of wall time; the default policy {alone} and "
        f"{1000 * wall['quiet, default']:.0f} ms of wall time.",
        f"Peak memory of the process, which holds both libraries: {seen.peak:.0f} MB.",
    ]
    return section


def rounds(folder: str) -> dict[str, dict[str, list[float]]]:
    """Samples of every case, {"cpu" | "wall": {case: seconds per call}}."""
    calls = candidates(folder)
    cases = [("quiet", who) for who in ("one thread", "default")]
    cases += [("busy", who) for who in ("one thread", "default", "timm")]
    found: dict[str, dict[str, list[float]]] = {"cpu": {}, "wall": {}}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        with spinning(OTHERS) as let:
            for state, who in cases:
                let(state == "busy")
                for kind, seconds in zip(("cpu", "wall"), both(calls[who]), strict=True):
                    found[kind].setdefault(f"{state}, {who}", []).append(seconds)
    return found


def candidates(folder: str) -> dict[str, Call]:
    """Ours with one thread and by default, and timm as it comes."""
    import torch

    import midsight
    from benchmarks.child import timm_tower

    default_threads = torch.get_num_threads()
    images = [np.random.default_rng(n).integers(0, 256, (384, 384, 3), np.uint8) for n in range(IMAGES)]
    batch = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]) / 127.5 - 1
    one = midsight.load(Path(folder) / "midsight", device="cpu", threads=1)
    free = midsight.load(Path(folder) / "midsight", device="cpu")
    peer = timm_tower(folder, NAME)

    def call_timm() -> Any:
        torch.set_num_threads(default_threads)
        with torch.inference_mode():
            return peer(batch)

    return {
        "one thread": lambda: one.embed_images(images, batch_size=IMAGES),
        "default": lambda: free.embed_images(images, batch_size=IMAGES),
        "timm": call_timm,
    }


def both(call: Call) -> tuple[float, float]:
    """CPU and wall seconds per call of one sample."""
    calls, start = 0, time.perf_counter()

    def counted() -> None:
        nonlocal calls
        call()
        calls += 1

    cpu = seconds_per_call(counted, cpu_seconds)
    return cpu, (time.perf_counter() - start) / calls


@contextlib.contextmanager
def spinning(count: int) -> Iterator[Any]:
    """`count` processes that compute without end; the function given lets them run (True) or holds them (False)."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"]) for _ in range(count)]

    def let(run: bool) -> None:
        for other in others:
            other.send_signal(signal.SIGCONT if run else signal.SIGSTOP)
        time.sleep(0.2)

    try:
        yield let
    finally:
        for other in others:
            other.kill()
            other.wait()
