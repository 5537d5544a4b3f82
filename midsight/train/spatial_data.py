"""What alignment reads: augmented pictures and, from rendered scenes, which object each place belongs to.

One draw moves pixels and objects alike, so that student and teachers see the same augmented picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.data.datasets import Dataset
from midsight.data.loader import decode_image
from midsight.data.samples import BadSample
from midsight.data.scenes.write import read_labels
from midsight.data.stream import Item, Order, Stream
from midsight.errors import MediaError
from midsight.transforms.augment import AugmentConfig, Draw, TrainTransform, crop_box, draw
from midsight.transforms.image import ImageTransform

MOST_OBJECTS = 32  # of a scene; the engine draws 16 at most


@dataclass(frozen=True)
class Aligned:
    """One picture, ready."""

    key: str
    pixels: Tensor  # float32 (3, S, S), normalised
    shares: Tensor | None  # float32 (M, h, w): how much of each token each object has, the surroundings first


@dataclass(frozen=True)
class SpatialBatch:
    """B pictures."""

    pixels: Tensor  # float32 (B, 3, S, S)
    shares: Tensor | None  # float32 (B, M, h, w); objects that a picture does not have are zero
    keys: tuple[str, ...]

    def part(self, rows: slice, device: torch.device) -> "SpatialBatch":
        """Some of its rows, on a device."""
        shares = None if self.shares is None else self.shares[rows].to(device, non_blocking=True)
        return SpatialBatch(self.pixels[rows].to(device, non_blocking=True), shares, self.keys[rows])


@dataclass(frozen=True)
class Prepare:
    """What a worker does with an entry: read, decode, augment.

    Args:
        grid: tokens each way; None leaves the objects out.
    """

    preprocess: PreprocessConfig
    augment: AugmentConfig
    seed: int
    grid: int | None

    def __call__(self, item: Item) -> Aligned:
        sample = item.read()
        drawn = draw(self.augment, self.seed, f"{item.epoch}/{sample.key}")
        image = decode_image(sample)
        varied = TrainTransform(self.preprocess, self.augment, self.seed).varied(image, drawn)
        pixels = ImageTransform(self.preprocess).normalize(varied)
        if self.grid is None:
            return Aligned(sample.key, pixels, None)
        if sample.labels is None:
            raise BadSample("no objects", f"{sample.key}: has no .npz of the scene engine beside its picture.")
        return Aligned(sample.key, pixels, self._shares(_ids(sample.key, sample.labels, image.shape[:2]), drawn))

    def _shares(self, ids: Tensor, drawn: Draw) -> Tensor:
        """ids (H, W) to the share of each object in each token, (M, h, w), moved as the picture is."""
        assert self.grid is not None
        top, left, high, wide = crop_box(ids.shape[0], ids.shape[1], drawn)
        one_hot = F.one_hot(ids[top : top + high, left : left + wide].long()).permute(2, 0, 1).float()  # M, H, W
        shares = F.adaptive_avg_pool2d(one_hot, (self.grid, self.grid))
        return shares.flip(-1) if drawn.flip else shares


def _ids(key: str, labels: bytes, size: tuple[int, ...]) -> Tensor:
    """Which object each pixel shows, int (H, W), 0 for the surroundings."""
    try:
        ids = read_labels(labels)["ids"]
    except (MediaError, KeyError) as error:
        raise BadSample("unreadable objects", f"{key}: {error}") from error
    if ids.shape != tuple(size) or ids.max(initial=0) >= MOST_OBJECTS:
        found = f"{ids.shape} with {int(ids.max(initial=0))} objects"
        raise BadSample("unfit objects", f"{key}: labels {found}, expected the picture's {size} and up to 31 objects.")
    return torch.from_numpy(np.ascontiguousarray(ids))


class SpatialBatches:
    """Batches of one process, without end; `state()` behind batch n resumes with batch n + 1."""

    def __init__(self, stream: Stream[Aligned], batch_size: int) -> None:
        self.stream, self.batch_size = stream, batch_size
        self._state = stream.state()

    def __iter__(self) -> Iterator[SpatialBatch]:
        rows: list[Aligned] = []
        for ready in self.stream:
            rows.append(ready)
            if len(rows) == self.batch_size:
                self._state = self.stream.state()
                yield collate(rows)
                rows = []

    def state(self) -> dict[str, Any]:
        """Where the stream stands behind the last batch that was taken; JSON."""
        return self._state


def collate(rows: Sequence[Aligned]) -> SpatialBatch:
    """Single pictures to a batch; all have objects, or none has."""
    shares = [row.shares for row in rows if row.shares is not None]
    stacked = None
    if shares:
        most = max(len(share) for share in shares)
        stacked = torch.stack([F.pad(share, (0, 0, 0, 0, 0, most - len(share))) for share in shares])
    return SpatialBatch(torch.stack([row.pixels for row in rows]), stacked, tuple(row.key for row in rows))


def spatial_batches(
    dataset: Dataset, prepare: Prepare, rows: int, order: Order, workers: int, resume: dict[str, Any] | None
) -> SpatialBatches:
    """Batches of a data set, of which each has the wanted labels.

    Raises:
        InputError: `resume` is of another data set or order.
    """
    stream = dataset.stream(prepare, order, workers=workers)
    if resume is not None:
        stream.resume(resume)
    return SpatialBatches(stream, rows)
