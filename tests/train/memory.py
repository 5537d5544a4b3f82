"""Samples in memory with the interface that the loop needs, and a program that trains on them.

Run as a program: FOLDER DEVICE [KEY=VALUE ...] [--resume] [--slow SECONDS] [--die RANK:STEP] [--nan STEP] [--samples N]
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pe
from midsight.train import adapt
from midsight.train.config import TrainConfig, read_recipe, resolve, towers
from midsight.train.distributed import World, world
from midsight.train.loop import Outcome, Trainer


@dataclass
class MemoryBatch:
    images: Tensor | None
    texts: Tensor
    keys: list[str]
    captions: list[str]
    videos: Tensor | None = None


@dataclass
class MemoryBatches:
    source: "MemorySource"
    size: int
    rows: int
    here: World
    taken: int

    def __iter__(self) -> Iterator[MemoryBatch]:
        while True:
            time.sleep(self.source.slow)
            if self.source.die == (self.here.rank, self.taken):
                raise RuntimeError("this process dies on purpose")
            yield self.source.batch(self.taken, self.size, self.rows, self.here)

    def state(self) -> dict[str, Any]:
        self.taken += 1
        return {"taken": self.taken}

    @property
    def skipped(self) -> dict[str, int]:
        return {}


@dataclass
class MemorySource:
    """`samples` pictures of random noise, each with its own text, in a new order in each epoch."""

    samples: int = 64
    context: int = 16
    slow: float = 0.0
    die: tuple[int, int] | None = None
    nan: int | None = None
    frames: int = 0

    @property
    def fingerprint(self) -> str:
        return f"memory-{self.samples}"

    def open(self, image_size: int, rows: int, here: World, resume: dict[str, Any] | None) -> MemoryBatches:
        return MemoryBatches(self, image_size, rows, here, resume["taken"] if resume else 0)

    def batch(self, number: int, size: int, rows: int, here: World) -> MemoryBatch:
        """The rows of one process of the batch of that number."""
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(number))
        chosen = order.repeat(1 + rows * here.size // self.samples)[here.rank * rows : (here.rank + 1) * rows]
        pictures, texts = zip(*(self._sample(int(index)) for index in chosen), strict=True)
        images = F.interpolate(torch.stack(pictures), size=(size, size), mode="bilinear", align_corners=False)
        if number == self.nan:
            images[0] = float("nan")
        keys = [f"sample-{int(index)}" for index in chosen]
        captions = [f"class {int(index) % 3}" for index in chosen]
        if self.frames:
            return MemoryBatch(
                None, torch.stack(texts), keys, captions, images[:, None].repeat(1, self.frames, 1, 1, 1)
            )
        return MemoryBatch(images, torch.stack(texts), keys, captions)

    def _sample(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        picture = torch.rand(3, 4, 4, generator=generator) * 2 - 1
        return picture, torch.randint(1, 63, (self.context,), generator=generator)


TINY = (
    "model.text.vocab_size=64",
    "data.batch_size=16",
    "data.micro_batch=4",
    "stages=[{image_size=16, samples=64}, {image_size=24, samples=64}]",
    "run.save_every=3",
    "run.log_every=1",
    "run.device=cpu",
)


def tiny(*changes: str) -> TrainConfig:
    """The tiny recipe, smaller still: two stages of four steps."""
    return resolve(read_recipe("core_tiny", [*TINY, *changes]))


def trainer(config: TrainConfig, folder: Path, source: MemorySource, here: World, **more: Any) -> Trainer:
    """A run of it from its seed."""
    torch.manual_seed(config.seed)
    model = pe.CLIP(*towers(config, config.stages[0].image_size))

    def finish(values: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return adapt.merge(values, *towers(config, config.stages[-1].image_size), config.finetune), {}

    return Trainer(config, model, source, folder, here, finish=finish, **more)


def alone() -> World:
    return World(0, 1, torch.device("cpu"))


def _program() -> Outcome:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--die", default="")
    asked = parser.parse_args()
    die = tuple(int(n) for n in asked.die.split(":")) if asked.die else None
    with world("cpu") as here:
        source = MemorySource(slow=asked.slow, die=die)  # type: ignore[arg-type]
        run = trainer(tiny(*asked.changes), asked.folder, source, here)
        return run.run(resume=asked.resume)


if __name__ == "__main__":
    torch.set_num_threads(1)
    outcome = _program()
    sys.stdout.flush()
    os._exit(0 if outcome.finished else 128 + (outcome.signal or 15))
