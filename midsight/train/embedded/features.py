"""What the frozen trunk sees in pictures; for the training pictures kept on disk, since the trunk is the slow part."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midsight.data.crops import CropMixer
from midsight.errors import CheckpointError
from midsight.pe.stem import EfficientNetLite

_BATCH, _WIDTH = 32, 1280
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Of training pictures."""

    pooled: Tensor  # float32 (N, 1280)
    drawings: Tensor  # int64 (N,), the drawing each shows, -1 for photographs


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.inference_mode()
def pooled(stem: EfficientNetLite, pixels: NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> Tensor:
    """Mean-pooled stem features (N, 1280), float32, of uint8 pictures (N, H, W, 3)."""
    parts = []
    for start in range(0, len(pixels), _BATCH):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            parts.append(stem(normalised(pixels[start : start + _BATCH])).float().mean((2, 3)))
    return torch.cat(parts)


def of_samples(stem: EfficientNetLite, mixer: CropMixer, count: int, folder: Path) -> Features:
    """The first `count` samples of the mixer, kept in a folder; a part that is there is kept and continued.

    Raises:
        CheckpointError: the folder holds those of another mixture, seed or list of drawings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_same(folder / "features.json", made_of(mixer))
    kept = _open(folder / "pooled.f16", np.float16, (count, _WIDTH))
    shown = _open(folder / "drawings.i32", np.int32, (count,))
    progress = folder / "done.txt"
    start = int(progress.read_text()) if progress.exists() else 0
    stem = stem.to(memory_format=torch.channels_last)
    for first in range(start, count, _BATCH):
        samples = [mixer.sample(number) for number in range(first, min(first + _BATCH, count))]
        kept[first : first + len(samples)] = pooled(stem, np.stack([s.pixels for s in samples]), torch.bfloat16).numpy()
        shown[first : first + len(samples)] = [sample.drawing for sample in samples]
        progress.write_text(str(first + len(samples)))
        if first // _BATCH % 20 == 0:
            log.info("trunk features: %d of %d", first + len(samples), count)
    stem.to(memory_format=torch.contiguous_format)
    return Features(torch.from_numpy(kept[:]).float(), torch.from_numpy(shown[:]).long())


def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A memory map of that shape; an existing smaller file grows, keeping what it holds."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with path.open("ab") as file:
        file.truncate(max(size, path.stat().st_size))
    return np.memmap(path, dtype, "r+", shape=shape)


def made_of(mixer: CropMixer) -> dict[str, object]:
    """What decides the training pictures, as far as a note can tell."""
    return {"seed": mixer.seed, "drawings": len(mixer.drawings), **asdict(mixer.mixture)}


def check_same(path: Path, wanted: dict[str, object]) -> None:
    """Writes a note of what a folder's files are made of, or compares with the one that is there.

    Raises:
        CheckpointError: they are made of something else.
    """
    if not path.exists():
        path.write_text(json.dumps(wanted))
    elif (found := json.loads(path.read_text())) != wanted:
        changed = [key for key in wanted if found.get(key) != wanted[key]]
        raise CheckpointError(f"{path.parent}: what is kept there differs in {', '.join(changed)}; delete the folder")
