"""The machine that a result belongs to: what it is, how busy it was, and what its matrix products reach."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import ROOT, Call, Times, in_turn

PACKAGES = ("torch", "timm", "open_clip_torch", "pillow", "simplejpeg", "av", "torchcodec", "tokenizers", "numpy")
STEADY = 0.85  # a run counts as steady where the probe's median is at least this part of its best
PROBE_SIDE = 1024


def pin() -> None:
    """One thread on one CPU for everything that follows, whoever starts threads."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def describe() -> str:
    """CPU, memory, system and versions, as a list in Markdown; equal descriptions mean comparable results."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in info)}
    flags = fields.get("flags", "").split()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if name in flags]
    family = f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return "\n".join(
        (
            f"- CPU: {fields.get('model name', platform.machine())} ({family}), {os.cpu_count()} CPUs, "
            + ", ".join(known),
            f"- Memory: {memory:.0f} GiB; GPU: {gpu}",
            f"- {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
            + ", ".join(f"{name} {installed(name)}" for name in PACKAGES),
        )
    )


def installed(package: str) -> str:
    """A package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def load_average() -> str:
    """Runnable processes over 1, 5 and 15 minutes."""
    return ", ".join(f"{load:.1f}" for load in os.getloadavg())


def commit() -> str:
    """The commit that was measured, with "+" where the package has changed since."""
    head = _git("rev-parse", "--short", "HEAD")
    return (
        head + ("+" if _git("status", "--porcelain", "--", "midsight", "benchmarks/*.py") else "")
        if head
        else "no commit"
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def probe(dtype: torch.dtype) -> Call:
    """One square matrix product with a weight packed for oneDNN, or a plain one where torch lacks it."""
    x, weight = torch.randn(PROBE_SIDE, PROBE_SIDE).to(dtype), torch.randn(PROBE_SIDE, PROBE_SIDE).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, PROBE_SIDE)
        torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return lambda: F.linear(x, weight)
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def probe_flops(times: Times, name: str) -> float:
    """FLOP per second that the probe called `name` reached in its median round."""
    return 2 * PROBE_SIDE**3 / float(np.median(times[name]))


def unsteady(times: Times, names: Sequence[str]) -> bool:
    """Whether the probe's median is far from its best: something else took the machine's caches, clock or memory."""
    return any(float(times[name].min() / np.median(times[name])) < STEADY for name in names)


def probed(candidates: dict[str, Call], dtype: torch.dtype, rounds: int) -> tuple[Times, float, str]:
    """Times of the candidates with the probe in the same rotation, measured once more where the machine was unsteady.

    Returns:
        Times, the probe's FLOP per second, and a remark that is empty for a steady run.
    """
    name = f"probe {dtype}"
    for _ in range(2):
        times = in_turn({**candidates, name: probe(dtype)}, rounds)
        if not unsteady(times, [name]):
            return times, probe_flops(times, name), ""
    return times, probe_flops(times, name), " (unsteady machine)"
