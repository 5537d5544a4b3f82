"""Tokens of every layer, computed once: in memory as float32 up to a limit, else on the disk as float16.

On the disk a picture's row of a layer is divided by its largest value where half precision could not hold it. A folder
that was begun is gone on with, from the last picture that was flushed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from midsight.errors import ConfigError, InputError, OutputError
from midsight.files import atomic_write

GIB = 2**30
_LARGEST = 32_768.0  # half precision ends at 65,504


@dataclass(frozen=True)
class StoreLimits:
    """What features may take."""

    memory_gib: float = 4.0
    disk_gib: float = 50.0

    def __post_init__(self) -> None:
        if self.memory_gib < 0 or self.disk_gib < 0:
            raise ConfigError(f"memory_gib and disk_gib must be at least 0, got {self}")


@dataclass(frozen=True)
class Shape:
    """N pictures, L layers, T tokens of W channels; S x S numbers beside each picture, or none."""

    pictures: int
    layers: int
    tokens: int
    width: int
    target: int = 0  # S
    target_dtype: str = "uint8"

    @property
    def rows(self) -> tuple[int, int, int, int]:
        return self.pictures, self.layers, self.tokens, self.width

    def nbytes(self, per_value: int) -> int:
        """Bytes of everything, with so many for each value of a token."""
        targets = self.pictures * self.target**2 * np.dtype(self.target_dtype).itemsize
        return int(np.prod(self.rows)) * per_value + targets


class TokenStore:
    """Rows are written once, in order, and read in any.

    Attributes:
        done: pictures that were looked at, whether they could be read or not.
        bad: number of a picture -> why it could not be read.
        on_disk: whether rows are in files.
    """

    def __init__(self, shape: Shape, limits: StoreLimits, folder: Path | None, key: str) -> None:
        """
        Args:
            folder: for files; None where there must be none.
            key: names what is computed; files of another key are not used.

        Raises:
            InputError: neither memory nor disk may hold so much; the message has the sizes.
            OutputError: the files cannot be made.
        """
        self.shape, self.folder = shape, folder
        self.done, self.bad = 0, dict[int, str]()
        self.on_disk = shape.nbytes(4) > limits.memory_gib * GIB
        if self.on_disk and (folder is None or shape.nbytes(2) > limits.disk_gib * GIB):
            raise InputError(_too_large(shape, limits, folder))
        self._values = self._array(f"{key}.tokens", shape.rows, "float16" if self.on_disk else "float32")
        self._scales = self._array(f"{key}.scales", shape.rows[:2], "float32")
        sides = (shape.pictures, shape.target, shape.target)
        self._targets = self._array(f"{key}.targets", sides, shape.target_dtype)
        if self.on_disk and folder is not None:
            self._progress = folder / f"{key}.json"
            self._resume()

    def write(self, first: int, tokens: Tensor, targets: npt.NDArray[Any] | None = None) -> None:
        """Rows `first`, `first` + 1, ...: tokens float (B, L, T, W), and numbers (B, S, S)."""
        rows = slice(first, first + len(tokens))
        values = tokens.float().cpu()
        if self.on_disk:
            scales = (values.abs().amax(dim=(2, 3)) / _LARGEST).clamp_min(1)  # B, L
            values = values / scales[:, :, None, None]
            self._scales[rows] = scales.numpy()
        self._values[rows] = values.numpy()
        if targets is not None:
            self._targets[rows] = targets

    def advance(self, done: int, bad: dict[int, str]) -> None:
        """Says that all pictures before `done` are written, or are among `bad`; on the disk this is kept."""
        self.done = done
        self.bad |= bad
        if not self.on_disk:
            return
        for array in (self._values, self._scales, self._targets):
            if isinstance(array, np.memmap):
                array.flush()
        with atomic_write(self._progress) as file:
            file.write(json.dumps({"done": done, "bad": self.bad}).encode())

    @property
    def good(self) -> list[int]:
        """Numbers of the pictures that have rows."""
        return [number for number in range(self.done) if number not in self.bad]

    def tokens(self, pictures: list[int], layers: slice = slice(None)) -> Tensor:
        """float32 (l, B, T, W) of some pictures and layers, on the CPU."""
        values = torch.from_numpy(np.asarray(self._values[pictures, layers])).float()  # B, l, T, W
        if self.on_disk:
            values = values * torch.from_numpy(self._scales[pictures, layers])[:, :, None, None]
        return values.transpose(0, 1)

    def targets(self, pictures: list[int]) -> Tensor:
        """(B, S, S) of some pictures."""
        return torch.from_numpy(np.asarray(self._targets[pictures]))

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        if not self.on_disk or self.folder is None or not np.prod(shape):
            return np.ones(shape, dtype)
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return np.memmap(path, dtype, "r+" if path.exists() else "w+", shape=shape)
        except (OSError, ValueError) as error:
            raise OutputError(f"{path}: features cannot be kept there ({error}). Name another folder.") from error

    def _resume(self) -> None:
        try:
            found = json.loads(self._progress.read_text())
            self.done = int(found["done"])
            self.bad = {int(number): str(reason) for number, reason in found["bad"].items()}
        except (OSError, ValueError, KeyError):  # nothing there yet, or nothing of ours: from the first picture
            self.done, self.bad = 0, {}


def _too_large(shape: Shape, limits: StoreLimits, folder: Path | None) -> str:
    memory, disk = (shape.nbytes(size) / GIB for size in (4, 2))
    where = "no folder is named for files" if folder is None else f"{limits.disk_gib:g} GiB of disk"
    return (
        f"features of {shape.pictures} pictures in {shape.layers} layers take {memory:.3g} GiB of memory or {disk:.3g} "
        f"GiB of disk; allowed are {limits.memory_gib:g} GiB of memory, and {where}. Allow more, name a folder for "
        "the results, or take fewer layers or a smaller image size."
    )
