"""PerceptionLM beside transformers' own: time to the first token, tokens a second, a second question, memory."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, plm_case, plm_folders
from benchmarks.common import Spent, fresh, ratio
from benchmarks.report import Section

DTYPES = ("float32", "bfloat16")
ROUNDS = {"tiny": 5, "1B": 3}
LEFT_FREE = 20e9  # bytes of the disk, beside the folders
FOLDERS = 4e9
INTRO = (
    "PerceptionLM with random weights from a folder in bfloat16 of transformers' layout, beside transformers' "
    "`PerceptionLMForConditionalGeneration.generate`, greedy; CPU time on one thread. 1B has the published sizes "
    "(L/14 tower of 23 blocks at 448 pixels, Llama 3.2 1B); tiny has a tower of width 192 and a language model of the "
    "sizes of SmolLM2-135M. The prompt: 100 tokens of text and 256 for each tile. `PLM.from_pretrained(folder, "
    "dtype=...).pack()`. A second question is put to the same page: midsight keeps what it has read, transformers gets "
    "the whole prompt again. Error: of the logits behind the prompt, between the two."
)
PEER = "transformers"


def run() -> Section:
    """All cases, each in a process of its own."""
    section = Section("PerceptionLM", INTRO)
    with tempfile.TemporaryDirectory() as scratch:
        if (free := shutil.disk_usage(scratch).free) < LEFT_FREE + FOLDERS:
            raise RuntimeError(f"{scratch}: {free / 1e9:.0f} GB are free, expected {(LEFT_FREE + FOLDERS) / 1e9:.0f}")
        for size, rounds in ROUNDS.items():
            folder = str(plm_folders.write(Path(scratch) / size, size))
            for dtype in DTYPES:
                for row in rows(folder, size, dtype, rounds):
                    section.rows.append(row)
                    print(row, file=sys.stderr, flush=True)
                section.notes.append(memory(folder, size, dtype))
    section.notes.append(f"Machine: {machine.describe().splitlines()[0].removeprefix('- ')}.")
    section.notes.append(f"transformers {machine.installed('transformers')}, torch {machine.installed('torch')}.")
    return section


def rows(folder: str, size: str, dtype: str, rounds: int) -> list[dict[str, str]]:
    """Three for each number of tiles."""
    found = []
    for entry in fresh("benchmarks.plm_case:measure", folder, dtype, rounds).value:
        case = f"{size}, {dtype}, {entry['tiles']} tile{'s' if entry['tiles'] > 1 else ''}"
        error = f"{entry['error']:.1e}, cosine {entry['cosine']:.6f}"
        traces: dict[str, Any] = entry["traces"]
        start = {name: np.array([trace[0] for trace in some]) for name, some in traces.items()}
        each = {name: plm_case.each_token(some) for name, some in traces.items()}
        found += [
            row(f"{case}: first token of {entry['tokens']}", start["midsight"], start[PEER], error),
            row(f"{case}: each further token", each["midsight"], each[PEER]),
            row(f"{case}: second question, first token", start["page"], start[PEER]),
        ]
    return found


def row(case: str, ours: Any, theirs: Any, error: str = "") -> dict[str, str]:
    """One comparison."""

    def told(times: Any) -> str:
        value = float(np.median(times))
        return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"

    rate = f"{1 / np.median(ours):.1f} ({PEER} {1 / np.median(theirs):.1f})" if "each" in case else ""
    return {
        "Case": case,
        "Speed": str(ratio(ours, theirs, PEER)),
        "CPU time": f"{told(ours)} ({PEER} {told(theirs)})",
        "Tokens a second": rate,
        "Error": error,
    }


def memory(folder: str, size: str, dtype: str) -> str:
    """Both alone: load, one answer about one tile."""
    spent = {who: fresh("benchmarks.plm_case:alone", who, folder, dtype) for who in ("midsight", PEER)}

    def told(one: Spent) -> str:
        return f"{one.peak:,.0f} MB at the peak, {one.value['private']:,.0f} MB of it private afterwards, " + (
            f"loaded in {one.value['load']:.1f} s of CPU time"
        )

    return f"{size}, {dtype}, one tile: midsight {told(spent['midsight'])}; {PEER} {told(spent[PEER])}."
