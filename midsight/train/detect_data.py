"""Batches of detector finetuning: which picture when, and each under its own jitter, read ahead by threads."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from midsight.ahead import read_ahead
from midsight.data.coco import CocoDataset, CocoImage, read_image, read_masks
from midsight.errors import InputError
from midsight.tasks.detection.augment import JitterConfig, draw, large_scale_jitter
from midsight.tasks.detection.preprocess import Normalization, Size, pad
from midsight.tasks.detection.targets import Target


@dataclass(frozen=True)
class DetectBatch:
    """What one step sees."""

    pixels: Tensor  # float32 (B, 3, S, S), normalised and padded
    sizes: list[Size]  # what of each square is picture
    targets: list[Target]
    images: list[int]  # ids of the pictures


@dataclass(frozen=True)
class DetectStream:
    """An endless stream of batches; batch n is the same whenever and wherever it is read."""

    data: CocoDataset
    side: int  # of the padded square, pixels
    normalize: Normalization
    augment: JitterConfig
    seed: int
    batch_size: int
    workers: int = 2
    masks: bool = True
    category_labels: bool = False  # labels are category ids
    repeat_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self._used():
            raise InputError(f"{self.data.source}: no picture has an object to train on")

    @property
    def pictures(self) -> int:
        """Pictures with objects; the others are not trained on."""
        return len(self._used())

    def batches(self, first: int) -> Generator[DetectBatch, None, None]:
        """Batches from number `first` on.

        Raises:
            MediaError, InputError: a picture or a mask that cannot be read.
        """
        keys = self._keys(first * self.batch_size)
        held: list[tuple[int, Tensor, Target]] = []
        ahead = max(self.workers, 2 * self.batch_size)
        for _, found in read_ahead(keys, self._read, workers=self.workers, inputs_ahead=ahead):
            if isinstance(found, Exception):
                raise found
            held.append(found)
            if len(held) == self.batch_size:
                yield self._batch(held)
                held = []

    def _batch(self, held: list[tuple[int, Tensor, Target]]) -> DetectBatch:
        sizes = [(pixels.shape[1], pixels.shape[2]) for _, pixels, _ in held]
        squares = torch.stack([pad(self.normalize(pixels), self.side) for _, pixels, _ in held])
        targets = [self._padded(target) for _, _, target in held]
        return DetectBatch(squares, sizes, targets, [image for image, _, _ in held])

    def _padded(self, target: Target) -> Target:
        if target.masks is None:
            return target
        return Target(target.boxes, target.labels, pad(target.masks, self.side))

    def _used(self) -> list[CocoImage]:
        return [image for image in self.data.images if image.things]

    def _keys(self, first: int) -> Iterator[tuple[CocoImage, str]]:
        """Every picture once an epoch (more often where rare classes are to be repeated), in an order by the seed."""
        used, epoch, seen = self._used(), 0, 0
        repeats = repeat_factors(self.data, self.repeat_threshold)
        while True:
            dice = np.random.default_rng([self.seed, epoch])
            times = np.floor(repeats + dice.random(len(used))).astype(int)
            order = dice.permutation(np.repeat(np.arange(len(used)), times))
            for place in range(max(0, first - seen), len(order)):
                yield used[order[place]], f"{epoch}/{place}"
            seen, epoch = seen + len(order), epoch + 1

    def _read(self, source: tuple[CocoImage, str]) -> Iterator[tuple[int, Tensor, Target]]:
        image, key = source
        pixels, target = large_scale_jitter(
            read_image(image), self._target(image), self.side, draw(self.augment, self.seed, f"{image.id}/{key}")
        )
        yield image.id, pixels, target

    def _target(self, image: CocoImage) -> Target:
        labels = [self.data.category_ids[t.label] if self.category_labels else t.label for t in image.things]
        boxes = torch.tensor([thing.box for thing in image.things], dtype=torch.float32)
        masks = torch.from_numpy(read_masks(image)) if self.masks else None
        return Target(boxes, torch.tensor(labels, dtype=torch.int64), masks)


def repeat_factors(data: CocoDataset, threshold: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How often each picture with objects comes in an epoch: 1, or more where it shows a rare class.

    A class in a share f of the pictures asks for sqrt(threshold / f); a picture takes the most that one of its classes
    asks for.

    Source: the LVIS paper (arXiv 1908.03195), section 5.1.
    """
    used = [image for image in data.images if image.things]
    shares = data.images_of_class() / max(1, len(used))
    wanted = [max(1.0, math.sqrt(threshold / share)) if share else 1.0 for share in shares]
    return np.array([max(wanted[thing.label] for thing in image.things) for image in used])
