"""What the frozen trunk sees in pictures."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midsight.pe.stem import EfficientNetLite

_BATCH = 32


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.inference_mode()
def pooled(stem: EfficientNetLite, pixels: NDArray[np.uint8]) -> Tensor:
    """Mean-pooled stem features (N, 1280), float32, of uint8 pictures (N, H, W, 3)."""
    parts = [stem(normalised(pixels[i : i + _BATCH])).mean((2, 3)) for i in range(0, len(pixels), _BATCH)]
    return torch.cat(parts)
