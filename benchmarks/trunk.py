"""The embedded models' convolutional trunk: how much do fused steps gain over plain convolutions?"""

import sys

import torch

import midsight
from benchmarks import machine
from benchmarks.common import beside, ratio
from benchmarks.report import Section
from midsight.pe import packed_trunk, stem
from midsight.pe.packed_trunk import PackedTrunk

ROUNDS = 7
ERROR = 5e-6
CASES = ((1, 224), (8, 224), (1, 448), (8, 448))  # batch, side in pixels
INTRO = (
    "EfficientNet-Lite2's trunk, float32, as the embedded model ships it, on random images: midsight's packed trunk, "
    "where each convolution takes its ReLU6 or the residual along, beside the same modules run one by one by PyTorch. "
    "Error: the largest difference, as a part of the largest value."
)


def run() -> Section:
    """All sizes."""
    machine.pin()
    section = Section("Packaged trunk", INTRO)
    if not packed_trunk.available():
        raise RuntimeError("this machine has no fused oneDNN convolutions: the plain trunk is what runs here")
    plain = midsight.load(device="cpu").tower.stem
    with torch.inference_mode():
        packed = PackedTrunk(plain)
        for batch, side in CASES:
            row = measure(plain, packed, batch, side)
            section.rows.append(row)
            print(row, file=sys.stderr, flush=True)
    section.notes.append(f"Machine: {machine.describe().splitlines()[0].removeprefix('- ')}.")
    return section


def measure(plain: stem.EfficientNetLite, packed: PackedTrunk, batch: int, side: int) -> dict[str, str]:
    """One row of the table."""
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found, expected = packed(images), plain(images)
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error < ERROR:
        raise RuntimeError(f"batch {batch} at {side} pixels: the two differ by {error:.1e}")
    times, _, remark = machine.probed(
        {"midsight": lambda: packed(images), "PyTorch": lambda: plain(images)}, torch.float32, ROUNDS
    )
    return {
        "Case": f"batch {batch}, {side} x {side} pixels",
        "Speed": f"{ratio(times['midsight'], times['PyTorch'], 'PyTorch')}{remark}",
        "Per picture": beside(times, "midsight", "PyTorch", batch),
        "Error": f"{error:.1e}",
    }
