"""Start-up: from the start of a process to the embedding of one picture."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import machine, media
from benchmarks.common import Spent, fresh, least_cosine, ratio, verdict
from benchmarks.report import Section
from benchmarks.twins import Twins

NAME = "PE-Core-T16-384"
ROUNDS = 7
GOAL = 1.7
INTRO = (
    "A fresh Python process embeds one photograph with the T configuration, weights from a safetensors file: CPU "
    "seconds from the start of the process to its end, files in the system's cache, one thread. midsight: "
    "`midsight.load(folder).embed_images(path)`, a folder with both towers; timm reads the vision tower alone, "
    "open_clip both. `import torch` is what nobody here can avoid."
)
WHO = ("midsight", "timm", "open_clip")


def run() -> Section:
    """All three in turn."""
    machine.pin()
    section = Section("Process start to first embedding", INTRO)
    with tempfile.TemporaryDirectory() as scratch:
        folder, picture = Path(scratch), Path(scratch) / "picture.jpg"
        picture.write_bytes(media.jpeg(*media.PHOTO, seed=0))
        Twins(NAME).save(folder)
        spent = in_turn(str(folder), str(picture))
    cpu = {who: np.array([one.cpu for one in several]) for who, several in spent.items()}
    embeddings = {who: spent[who][0].value for who in WHO}
    for peer in WHO[1:]:
        found = ratio(cpu["midsight"], cpu[peer], peer)
        section.rows.append(
            {
                "Case": "T16-384, one photograph",
                "Speed": str(found),
                "Goal": verdict(found, GOAL) if peer == "timm" else "-",
                "CPU seconds": f"{np.median(cpu['midsight']):.2f} ({peer} {np.median(cpu[peer]):.2f})",
                "Cosine": f"{least_cosine(embeddings['midsight'], embeddings[peer]):.6f}",
                "Peak memory": f"{peak(spent['midsight']):.0f} MB ({peer} {peak(spent[peer]):.0f} MB)",
            }
        )
    section.notes.append(
        f"`import torch` alone: {np.median(cpu['torch']):.2f} CPU seconds, {peak(spent['torch']):.0f} MB. "
        f"`import midsight` alone: {np.median(cpu['import midsight']):.2f} CPU seconds, of which Python itself takes "
        f"{np.median(cpu['python']):.2f}."
    )
    return section


def in_turn(folder: str, picture: str) -> dict[str, list[Spent]]:
    """Every program once per round; the first round only warms the system's cache."""
    spent: dict[str, list[Spent]] = {}
    for number in range(ROUNDS + 1):
        for who in (*WHO, "torch", "import midsight", "python"):
            one = fresh(*task(who, folder, picture))
            if number:
                spent.setdefault(who, []).append(one)
            print(number, who, f"{one.cpu:.2f}", file=sys.stderr, flush=True)
    return spent


def task(who: str, folder: str, picture: str) -> tuple[str, ...]:
    """What `fresh` is to run."""
    if who in WHO:
        return f"benchmarks.child:first_image_{who}", folder, NAME, picture
    return {
        "torch": ("benchmarks.child:only_torch",),
        "import midsight": ("benchmarks.names:only_midsight",),
        "python": ("benchmarks.names:nothing",),
    }[who]


def peak(several: list[Spent]) -> float:
    """Median of the peaks, MB."""
    return float(np.median([one.peak for one in several]))
