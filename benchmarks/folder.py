"""Folder to embeddings: how long do the JPEGs of a folder take, end to end?"""

import gc
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import midsight
from benchmarks import machine, media
from benchmarks.child import open_clip_loader
from benchmarks.common import Call, against_best, beside, fresh, least_cosine, verdict
from benchmarks.jpeg import decode, over
from benchmarks.names import GFLOP, SIZES
from benchmarks.report import Section
from benchmarks.twins import BF16, Twins, in_bf16
from midsight.threads import keep_freed_memory

NAMES = ("PE-Core-T16-384", "PE-Core-B16-224")
COUNT, BATCH = 16, 8
ROUNDS = 7
GOAL = 2.0
INTRO = (
    f"{COUNT} made photographs of 2.5 MP to embeddings, batches of {BATCH}: "
    "`midsight.load(folder).embed_images(paths)` against the usual open_clip loop (Pillow, its transform with "
    "the published settings, DataLoader, encode_image). CPU time on one CPU, where worker processes would only "
    "add work. Cosine: lowest to open_clip's fp32 embeddings. midsight has glibc keep freed memory; that holds "
    "for the whole process, so here the peers have the gain of it, too. "
    "Limit: what the ratio would be if the tower's operations ran at the rate of a packed oneDNN matrix product "
    "and nothing came on top but decoding the JPEGs, both measured in the same rounds."
)


def run() -> Section:
    """T and B, both precisions."""
    machine.pin()
    keep_freed_memory()
    section = Section("Folder of JPEGs to embeddings", INTRO)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        paths = media.write_jpegs(pictures, COUNT)
        for name in NAMES:
            folder = Path(scratch) / name
            folder.mkdir()
            pair = Twins(name)
            pair.save(folder)
            expected = loop(pair.open_clip, paths, name)()
            for precision in ("fp32", "bf16"):
                row = measure(pair, folder, paths, precision, expected)
                row["Peak memory"] = memory(folder, name, precision, pictures)
                section.rows.append(row)
                print(row, file=sys.stderr, flush=True)
                gc.collect()  # packed towers refer to themselves
    section.notes.append("Peak memory is that of a process that loads the pair and embeds the folder once.")
    return section


def measure(pair: Twins, folder: Path, paths: list[Path], precision: str, expected: Any) -> dict[str, str]:
    """One row of the table."""
    model = midsight.load(folder / "midsight", device="cpu", dtype=precision, threads=1)
    calls: dict[str, Call] = {"midsight": lambda: model.embed_images(paths, batch_size=BATCH)}
    if precision == "fp32":
        calls["open_clip"] = loop(pair.open_clip, paths, pair.name)
    else:
        calls["open_clip autocast"] = loop(pair.open_clip, paths, pair.name, autocast=True)
        calls["open_clip bf16 weights"] = loop(in_bf16(pair.open_clip), paths, pair.name, dtype=BF16)
    peers = [who for who in calls if who != "midsight"]
    calls["decoding"] = over(paths, decode)
    times, probe, remark = machine.probed(calls, torch.float32 if precision == "fp32" else BF16, ROUNDS)
    found = against_best(times, "midsight", peers)
    floor = np.median(times["decoding"]) + COUNT * GFLOP[pair.name] * 1e9 / probe
    return {
        "Case": f"{pair.name.removeprefix('PE-Core-')}, {precision}",
        "Speed": f"{found}{remark}",
        "Goal": verdict(found, GOAL),
        "Per image": beside(times, "midsight", found.than, COUNT),
        "Limit": f"{np.median(times[found.than]) / floor:.2f}x",
        "Cosine": f"{least_cosine(calls['midsight'](), expected):.6f}",
    }


def loop(
    model: Any, paths: list[Path], name: str, *, autocast: bool = False, dtype: torch.dtype = torch.float32
) -> Call:
    """open_clip over the files, as people write it."""

    def call() -> Any:
        loader = open_clip_loader(paths, SIZES[name], BATCH)
        with torch.inference_mode(), torch.autocast("cpu", BF16, enabled=autocast):
            found = [model.encode_image(batch.to(dtype), normalize=True).float() for batch in loader]
        return torch.cat(found).numpy()

    return call


def memory(folder: Path, name: str, precision: str, pictures: Path) -> str:
    """Peaks of midsight and open_clip, each in a process of its own."""
    arguments = (str(folder), name, precision, str(pictures))
    ours, theirs = (fresh(f"benchmarks.child:folder_{who}", *arguments).peak for who in ("midsight", "open_clip"))
    return f"{ours:.0f} MB (open_clip {theirs:.0f} MB)"
