"""Features of each picture, computed once: kept on the disk as far as a limit allows, else computed anew."""

import contextlib
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from midsight.data.pairs import Pair
from midsight.errors import MediaError, OutputError
from midsight.files import atomic_write
from midsight.images.labels import nearest
from midsight.tasks.features import DenseEncoder

GIB = 2**30


class DenseSet(Protocol):
    """Pictures with a number for each pixel: `SegmentationSet`, `DepthSet`."""

    @property
    def pairs(self) -> tuple[Pair, ...]: ...

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]: ...


@dataclass(frozen=True)
class Sample:
    """One picture as training sees it."""

    maps: list[Tensor]  # float32 (C, h, w) each
    target: Tensor  # (T, T)


class Samples:
    """Pictures of a set, squashed to squares of S pixels, as feature maps with targets.

    A file for each picture: the maps and the target. What cannot be read is left out and counted in `skipped`.
    """

    def __init__(
        self, data: DenseSet, encoder: DenseEncoder, image_size: int, folder: Path, limit: int, target_size: int = 0
    ) -> None:
        """
        Args:
            image_size: S, a multiple of the patch size.
            target_size: T, the side of the targets; 0 is S.
            folder: of the kept features; is made where it is missing.
            limit: bytes that all files in it may take.
        """
        self.data, self.encoder, self.image_size, self.folder = data, encoder, image_size, folder
        self.target_size = target_size or image_size
        self.skipped: Counter[str] = Counter()
        self._room = limit - _used(folder)
        self._bad: dict[int, str] = {}
        settings = (encoder.identity, encoder.layers, encoder.norm, image_size, repr(getattr(data, "labels", "")))
        thinned = [str(target_size)] if target_size else []
        self._settings = json.dumps([*map(str, settings), repr(getattr(data, "files", "")), *thinned])

    def __len__(self) -> int:
        return len(self.data.pairs)

    @property
    def fingerprint(self) -> str:
        """Another one for other pictures, targets, sizes or features."""
        digest = hashlib.sha256(self._settings.encode())
        for pair in self.data.pairs:
            digest.update(pair.key.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()

    def get(self, index: int) -> Sample | None:
        """One picture, or None where it cannot be read.

        Raises:
            InputError: a target that does not belong to its picture, or numbers that there should not be.
        """
        if index in self._bad:
            return None
        try:
            path = self.folder / f"{self._name(self.data.pairs[index])}.safetensors"
            return self._kept(path) or self._computed(index, path)
        except MediaError as error:
            self._bad[index] = str(error)
            self.skipped["unreadable picture"] += 1
            return None

    def _name(self, pair: Pair) -> str:
        digest = hashlib.sha256(self._settings.encode())
        for path in (pair.image, pair.target):
            try:
                status = path.stat()
            except OSError as error:
                raise MediaError(f"{path}: cannot be read ({error.strerror}).") from error
            digest.update(
                f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape")
            )
        return digest.hexdigest()[:40]

    def _kept(self, path: Path) -> Sample | None:
        try:
            values = load(path.read_bytes())
            return Sample([values[f"map{k}"] for k in range(len(self.encoder.layers))], values["target"])
        except (OSError, SafetensorError, KeyError):  # not there yet, or half a file of a broken disk
            return None

    def _computed(self, index: int, path: Path) -> Sample:
        image, target = self.data.read(index)
        size = self.image_size
        maps = [found[0].cpu() for found in self.encoder(self.encoder.images(image, size, size)[None])]
        sample = Sample(maps, torch.from_numpy(nearest(target, self.target_size, self.target_size)))
        self._keep(sample, path)
        return sample

    def _keep(self, sample: Sample, path: Path) -> None:
        tensors = {f"map{k}": found.contiguous() for k, found in enumerate(sample.maps)} | {"target": sample.target}
        needed = sum(tensor.nbytes for tensor in tensors.values())
        if needed > self._room:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = save(tensors)
            with atomic_write(path) as file:
                file.write(data)
            self._room -= len(data)
        except (OSError, OutputError) as error:
            warnings.warn(f"features are no longer kept: {error}", UserWarning, stacklevel=2)
            self._room = 0


def stacked(samples: list[Sample], move: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
    """A batch: maps (B, C, h, w) for each layer, and targets (B, T, T)."""
    maps = [move(torch.stack(layer)) for layer in zip(*(sample.maps for sample in samples), strict=True)]
    return maps, move(torch.stack([sample.target for sample in samples]))


def _used(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                total += entry.stat().st_size
    return total
