"""Label propagation: how fast does one more frame of a video get its mask?"""

import gc
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from benchmarks.common import beside, fresh, ratio, verdict
from benchmarks.report import Section
from midsight.tasks.tracking import PropagationConfig, propagate_stream

CONFIG = PropagationConfig()
ROUNDS = 7
LABELS = 4  # channels of the masks: the background and three objects
GOAL = 5.0
INTRO = (
    "Features to masks, one frame with a full context (the first frame and 7 more), radius 12, the 5 most alike, "
    "float32. The peer is written here as DINO's evaluation of video segmentation works: affinities of all tokens with "
    "all tokens of the context, times a mask of the neighbourhood, the largest of each column of the whole matrix, the "
    "whole context normalised again for each frame. midsight computes inside the neighbourhood only and normalises a "
    "frame once. Both get the same random features; the masks of 10 frames are compared before anything is timed."
)


@dataclass(frozen=True)
class Case:
    """A grid of tokens and the width of their features."""

    name: str
    rows: int
    columns: int
    width: int


CASES = (
    Case("ViT-S/16, 480p (DINO's setting)", 30, 52, 384),
    Case("ViT-S/8, 480p (DINO's setting)", 60, 104, 384),
    Case("PE-Spatial-B16, 480p", 30, 52, 768),
    Case("PE-Spatial-G14, 448 x 252", 18, 32, 1536),
)


def run() -> Section:
    """All grids."""
    machine.pin()
    section = Section("Label propagation", INTRO)
    for case in CASES:
        row = measure(case)
        section.rows.append(row)
        print(row, file=sys.stderr, flush=True)
        gc.collect()
    section.notes.append(
        "On a grid that is hardly larger than the neighbourhood there is little to leave out: the products of the "
        "frame's tokens with nearly all tokens of the context remain, and both sides compute them."
    )
    section.notes.append(f"Machine: {machine.describe().splitlines()[0].removeprefix('- ')}.")
    return section


def measure(case: Case) -> dict[str, str]:
    """One row of the table."""
    maps, first = inputs(case)
    candidates = {"midsight": propagate_stream, "full matrix": full_matrix}
    streams = {who: function(itertools.cycle(maps), first) for who, function in candidates.items()}
    masks = {who: torch.stack(list(itertools.islice(stream, len(maps)))) for who, stream in streams.items()}
    difference = (masks["midsight"] - masks["full matrix"]).abs()
    if not float(difference.mean()) < 1e-5 < float(masks["full matrix"].std()):
        raise RuntimeError(f"{case.name}: the masks differ by {difference.mean():.1e} on average")
    calls = {who: (lambda stream=stream: next(stream)) for who, stream in streams.items()}
    times, _, remark = machine.probed(calls, torch.float32, ROUNDS)
    found = ratio(times["midsight"], times["full matrix"], "full matrix")
    peaks = [fresh("benchmarks.tracking:one_pass", CASES.index(case), who).peak for who in candidates]
    return {
        "Case": f"{case.name}: {case.rows} x {case.columns} tokens of {case.width}",
        "Speed": f"{found}{remark}",
        "Goal": verdict(found, GOAL),
        "Per frame": beside(times, "midsight", "full matrix"),
        "Error": f"{difference.max():.1e}",
        "Peak memory": f"{peaks[0]:.0f} MB (full matrix {peaks[1]:.0f} MB)",
    }


def one_pass(number: int, who: str) -> None:
    """Ten frames of a case, for a process of its own."""
    maps, first = inputs(CASES[number])
    for _ in (propagate_stream if who == "midsight" else full_matrix)(maps, first):
        pass


def inputs(case: Case, frames: int = 10) -> tuple[list[Tensor], Tensor]:
    """Maps (C, h, w) that are alike from frame to frame, and a first mask (K, h, w)."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.width, case.rows, case.columns)
    scene = torch.randn(shape, generator=generator)
    labels = torch.randint(0, LABELS, shape[1:], generator=generator)
    maps = [scene + torch.randn(shape, generator=generator) for _ in range(frames)]
    return maps, F.one_hot(labels, LABELS).movedim(-1, 0).float()


@torch.inference_mode()
def full_matrix(maps: Iterable[Tensor], first: Tensor) -> Iterator[Tensor]:
    """Masks (K, h, w) of all frames, by affinities between all tokens."""
    rows, columns = first.shape[1:]
    near = neighbourhood(rows, columns)
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=CONFIG.context)
    start: tuple[Tensor, Tensor] | None = None
    for frame in maps:
        tokens = frame.flatten(1).T  # N, C
        if start is None:
            start = tokens, first.flatten(1)
            yield first
            continue
        context = [start, *recent]
        keys = F.normalize(torch.stack([known for known, _ in context]), dim=2)  # n, N, C
        queries = F.normalize(tokens, dim=1).expand(len(context), -1, -1)
        affinity = torch.exp(torch.bmm(queries, keys.transpose(1, 2)) / CONFIG.temperature)  # n, queries, keys
        affinity *= near
        affinity = affinity.transpose(1, 2).reshape(-1, rows * columns)  # n N, queries
        least = torch.topk(affinity, CONFIG.topk, dim=0).values[-1]
        affinity[affinity < least] = 0
        affinity /= affinity.sum(dim=0, keepdim=True)
        masks = torch.cat([mask for _, mask in context], dim=1)  # K, n N
        mask = masks @ affinity
        recent.append((tokens, mask))
        yield mask.view(-1, rows, columns)


def neighbourhood(rows: int, columns: int) -> Tensor:
    """1 where two tokens lie within the radius, else 0: float (N, N)."""
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    away = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    return (away <= CONFIG.radius).float()
