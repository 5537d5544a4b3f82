"""A data set that is decoded once and kept in memory as tensors, for small sets that are seen many times.

Pictures are kept squashed to squares. With the tensors on a GPU nothing has to be decoded, cut or copied by the CPU
while it trains.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from midsight.data.datasets import Dataset
from midsight.data.loader import Tokenizer, TrainBatch, decode_image
from midsight.data.samples import BadSample
from midsight.data.stream import Item, Order
from midsight.errors import ConfigError, InputError
from midsight.transforms.image import resize_pixels


class BatchTransform(Protocol):
    """Pictures in memory become the encoder's input; `midsight.transforms.batched.BatchTransform` is one."""

    def __call__(self, pixels: Tensor, keys: Sequence[str]) -> Tensor:
        """uint8 (B, 3, P, P) to float32 (B, 3, S, S) on the same device."""


@dataclass(frozen=True)
class Resident:
    """Decoded pictures with their captions."""

    pixels: Tensor  # uint8 (N, 3, P, P)
    captions: tuple[str, ...]
    keys: tuple[str, ...]
    skipped: Mapping[str, int]  # samples that were left out, by reason

    def __post_init__(self) -> None:
        if not len(self.pixels) == len(self.captions) == len(self.keys):
            counts = f"{len(self.pixels)} pictures, {len(self.captions)} captions, {len(self.keys)} keys"
            raise InputError(f"every picture needs a caption and a key, got {counts}")

    @property
    def fingerprint(self) -> str:
        """Another one for other keys, captions or number of pixels."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.keys, self.captions)).encode())
        return digest.hexdigest()

    def to(self, device: torch.device) -> "Resident":
        """The same with its pixels on a device."""
        return replace(self, pixels=self.pixels.to(device))


def read_resident(dataset: Dataset, side: int, workers: int = 2) -> Resident:
    """All pictures of a data set, in its own order, squashed to `side` pixels.

    Raises:
        UnusableError: not one sample can be used.
    """

    def prepare(item: Item) -> tuple[str, str, Tensor]:
        sample = item.read()
        if sample.kind != "image":
            raise BadSample("a video among pictures", f"{sample.key}: is a video, expected a picture.")
        return sample.key, sample.caption, resize_pixels(decode_image(sample), side, side)

    stream = dataset.stream(prepare, Order(shuffle=False), epochs=1, workers=workers)
    keys, captions, pixels = zip(*stream, strict=True)
    return Resident(torch.stack(pixels), captions, keys, Counter(stream.skipped))


class ResidentBatches:
    """Batches of one process, without end, in an order by seed and epoch; what is left of an epoch is dropped.

    `state()` behind batch n resumes with batch n + 1.
    """

    def __init__(
        self,
        data: Resident,
        transform: BatchTransform,
        tokenizer: Tokenizer,
        batch_size: int,
        order: Order,
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            data: on the device where the batches shall be.
            batch_size: rows of this process.
            order: seed, and this process's share.
            resume: what `state()` gave.

        Raises:
            ConfigError: an epoch is smaller than one batch of all processes.
        """
        if batch_size * order.ranks > len(data.keys):
            raise ConfigError(
                f"data.batch_size: {batch_size * order.ranks} rows, but the data set that is kept in memory has "
                f"{len(data.keys)} samples; lower it"
            )
        self.data, self.transform, self.rows, self.order = data, transform, batch_size, order
        self.texts = tokenizer(list(data.captions)).to(data.pixels.device)
        self._place = (int(resume["epoch"]), int(resume["batch"])) if resume else (0, 0)

    @property
    def skipped(self) -> Mapping[str, int]:
        """Samples that were left out when the data set was read, by reason."""
        return self.data.skipped

    def state(self) -> dict[str, Any]:
        """Where the batches stand behind the last one that was taken; JSON."""
        return {"epoch": self._place[0], "batch": self._place[1]}

    def __iter__(self) -> Iterator[TrainBatch]:
        while True:
            epoch, first = self._place
            seeds = np.random.SeedSequence((self.order.seed, epoch))
            rows = np.arange(len(self.data.keys))
            if self.order.shuffle:
                np.random.default_rng(seeds).shuffle(rows)
            mine = rows[self.order.rank :: self.order.ranks]
            count = len(rows) // self.order.ranks // self.rows
            for number in range(first, count):
                self._place = (epoch, number + 1) if number + 1 < count else (epoch + 1, 0)
                yield self._batch(epoch, mine[number * self.rows : (number + 1) * self.rows].tolist())

    def _batch(self, epoch: int, rows: list[int]) -> TrainBatch:
        chosen = torch.tensor(rows, device=self.data.pixels.device)
        keys = tuple(self.data.keys[row] for row in rows)
        images = self.transform(self.data.pixels[chosen], [f"{epoch}/{key}" for key in keys])
        captions = tuple(self.data.captions[row] for row in rows)
        return TrainBatch(images, None, self.texts[chosen], keys, captions)
