"""JPEG to tensor: how fast does a photograph on the disk become the encoder's input?"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from benchmarks import machine, media
from benchmarks.child import open_clip_transform
from benchmarks.common import Call, beside, fresh, in_turn, least_cosine, ratio, verdict
from benchmarks.report import Section
from benchmarks.twins import Twins
from midsight.configs import PreprocessConfig
from midsight.transforms.image import ImageTransform

SIZE = 384
ROUNDS = 15
WHO = ("midsight", "open_clip")
GOAL = 2.2
DIFFERENCE = 0.01  # of 255
INTRO = (
    f"Made photographs ({media.ABOUT_PHOTOS}) to float32 (3, {SIZE}, {SIZE}), against open_clip's transform with "
    "the published settings. Pixel difference: mean absolute, in steps of 255, to open_clip's tensor. Cosine: "
    "lowest between the embeddings of both tensors by the T tower with random weights. Reduced decoding is an "
    "option (`reduced_decoding=True`), never the default."
)
BUFFER = np.empty(3 * media.LARGE_PHOTO[0] * media.LARGE_PHOTO[1], np.uint8)
Transform = Callable[[Path], Tensor]


def run() -> Section:
    """Both photograph sizes; exact, and with reduced decoding."""
    machine.pin()
    section = Section("JPEG to tensor", INTRO)
    ours = ImageTransform(PreprocessConfig(SIZE))
    reduced = ImageTransform(PreprocessConfig(SIZE), reduced_decoding=True)
    encode = Twins("PE-Core-T16-384").packed(torch.float32).visual
    with tempfile.TemporaryDirectory() as folder:
        for size, count in ((media.PHOTO, 8), (media.LARGE_PHOTO, 2)):
            paths = media.write_jpegs(Path(folder) / f"{size[0]}", count, size)
            memory = [fresh(f"benchmarks.child:jpeg_{who}", str(paths[0]), SIZE).peak for who in WHO]
            rows = measure(paths, {"exact": ours, "reduced decoding": reduced}, encode)
            rows[0]["Peak memory"] = f"{memory[0]:.0f} MB (open_clip {memory[1]:.0f} MB)"
            if size == media.PHOTO:
                rows[0]["Goal"] = verdict(float(rows[0]["Speed"].split("x")[0]), GOAL)
            section.rows += rows
            print(rows, file=sys.stderr, flush=True)
    section.notes += [
        "Peak memory is that of a process that transforms one photograph.",
        '"Decoding alone" is simplejpeg (libjpeg-turbo) at full size into memory that is there already: the floor of '
        "every exact path that decodes with it.",
    ]
    return section


def pillow(paths: list[Path]) -> Transform:
    """open_clip's way: Pillow, torchvision."""
    transform = open_clip_transform(SIZE)

    def load(path: Path) -> Tensor:
        with Image.open(path) as image:
            return transform(image)

    return load


def measure(
    paths: list[Path], ours: dict[str, ImageTransform], encode: Callable[[Tensor], Tensor]
) -> list[dict[str, str]]:
    """A row for each way of ours. Every tensor is dropped before the next is made, on both sides."""
    theirs = pillow(paths)
    calls: dict[str, Call] = {how: over(paths, transform) for how, transform in ours.items()}
    calls |= {"open_clip": over(paths, theirs), "decoding": over(paths, decode)}
    times = in_turn(calls, ROUNDS)
    expected = torch.stack([theirs(path) for path in paths])
    size = np.mean([path.stat().st_size for path in paths]) / 1000
    with Image.open(paths[0]) as image:
        pixels = image.width * image.height / 1e6
    rows = []
    for how, transform in ours.items():
        found = torch.stack([transform(path) for path in paths])
        difference = float((found - expected).abs().mean()) * 127.5  # tensors run from -1 to 1
        exact = how == "exact" and difference >= DIFFERENCE
        with torch.inference_mode():
            cosine = least_cosine(encode(found), encode(expected))
        rows.append(
            {
                "Case": f"{pixels:.1f} MP, {size:.0f} kB, {how}",
                "Speed": str(ratio(times[how], times["open_clip"], "open_clip")),
                "Goal": "-",
                "Per image": beside(times, how, "open_clip", len(paths)),
                "Pixel difference": f"{difference:.4f}" + (" **above the goal**" if exact else ""),
                "Cosine": f"{cosine:.6f}",
            }
        )
    floor = str(ratio(times["decoding"], times["open_clip"], "open_clip"))
    label = f"{pixels:.1f} MP, {size:.0f} kB, decoding alone"
    return [*rows, {"Case": label, "Speed": floor, "Per image": beside(times, "decoding", "open_clip", len(paths))}]


def decode(path: Path) -> object:
    """The floor of every exact path."""
    return simplejpeg.decode_jpeg(path.read_bytes(), "RGB", buffer=BUFFER)


def over(paths: list[Path], transform: Callable[[Path], object]) -> Call:
    """All files, one after another."""

    def call() -> None:
        for path in paths:
            transform(path)

    return call
