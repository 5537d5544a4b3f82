"""The frozen trunk's maps of the training pictures, computed once and kept on disk: training epochs are then cheap."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midsight.data.crops import CropMixer, Pixels
from midsight.errors import CheckpointError
from midsight.pe.stem import EfficientNetLite

CHANNELS = 352  # the map before the last 1x1 expansion: a quarter of the size, and the expansion is cheap
_BATCH = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cache:
    """Maps float16 (N, 352, g, g) and the drawing shown (N,), -1 for photographs; memory-mapped."""

    maps: NDArray[np.float16]
    drawings: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.drawings)


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.inference_mode()
def trunk_maps(stem: EfficientNetLite, pixels: NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps before the expansion, (B, 352, g, g), of uint8 pictures (B, H, W, 3)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        x = torch.nn.functional.relu6(stem.conv(normalised(pixels)))
        return stem.blocks(x).float()


def expand(stem: EfficientNetLite, maps: Tensor) -> Tensor:
    """The stem's output (B, 1280, g, g) from maps before the expansion."""
    return torch.nn.functional.relu6(stem.head(maps))


@torch.inference_mode()
def pooled(stem: EfficientNetLite, maps: NDArray[np.float16]) -> Tensor:
    """Mean-pooled stem features (N, 1280), float32."""
    chunks = [expand(stem, torch.from_numpy(maps[i : i + 512]).float()).mean((2, 3)) for i in range(0, len(maps), 512)]
    return torch.cat(chunks)


def fill(stem: EfficientNetLite, mixer: CropMixer, count: int, folder: Path) -> Cache:
    """The first `count` samples of the mixer as a cache in `folder`; a part filled earlier is kept and continued.

    Raises:
        CheckpointError: the folder holds a cache of another mixture, seed or list of drawings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = mixer.mixture.size // stem.stride
    _check_same(folder / "cache.json", {"seed": mixer.seed, "drawings": len(mixer.drawings), **asdict(mixer.mixture)})
    maps = _open(folder / "maps.f16", np.float16, (count, CHANNELS, grid, grid))
    drawings = _open(folder / "drawings.i32", np.int32, (count,))
    progress = folder / "done.txt"
    start = int(progress.read_text()) if progress.exists() else 0
    last = stem.to(memory_format=torch.channels_last)
    for first in range(start, count, _BATCH):
        samples = [mixer.sample(number) for number in range(first, min(first + _BATCH, count))]
        pixels: Pixels = np.stack([sample.pixels for sample in samples])
        maps[first : first + len(samples)] = trunk_maps(last, pixels, torch.bfloat16).numpy()
        drawings[first : first + len(samples)] = [sample.drawing for sample in samples]
        progress.write_text(str(first + len(samples)))
        if first // _BATCH % 20 == 0:
            log.info("trunk features: %d of %d", first + len(samples), count)
    return Cache(maps, drawings)


def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A memory map of that shape; an existing smaller file grows, keeping what it holds."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with path.open("ab") as file:
        file.truncate(max(size, path.stat().st_size))
    return np.memmap(path, dtype, "r+", shape=shape)


def _check_same(path: Path, wanted: dict[str, object]) -> None:
    if not path.exists():
        path.write_text(json.dumps(wanted))
    elif (found := json.loads(path.read_text())) != wanted:
        changed = [key for key in wanted if found.get(key) != wanted[key]]
        raise CheckpointError(f"{path.parent}: cached features differ in {', '.join(changed)}; delete the folder")
