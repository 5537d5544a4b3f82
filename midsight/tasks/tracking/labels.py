"""Label maps of pixels to soft masks of tokens, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError

Labels = npt.NDArray[np.uint8]  # (H, W); 0 is the background

VOID = 255


def grid_mask(labels: npt.NDArray[Any], rows: int, columns: int, name: str = "first mask") -> tuple[Tensor, list[int]]:
    """A label map as one-hot masks of tokens: the label at each token's centre.

    An object that lies between all centres gets the token that it covers most, for otherwise it could not be found
    again (the published evaluation loses it).

    Args:
        labels: integer (H, W); 0 is the background, and so is void (255).
        rows, columns: tokens.
        name: of the map, for messages.

    Returns:
        float32 (K, rows, columns) and the K labels, the background (0) first.

    Raises:
        InputError: no object.
    """
    labels = np.where(labels == VOID, 0, labels)
    objects = [int(label) for label in np.unique(labels) if label != 0]
    if not objects:
        raise InputError(f"{name}: has no object to track: every pixel is 0 (background) or 255 (void)")
    height, width = labels.shape
    centres = labels[np.ix_(_centres(height, rows), _centres(width, columns))]  # rows, columns
    for label in objects:
        if not (centres == label).any():
            y, x = np.nonzero(labels == label)
            tokens = (y * rows // height) * columns + x * columns // width
            centres.flat[np.bincount(tokens).argmax()] = label
    names = [0, *objects]
    return torch.from_numpy(np.stack([centres == label for label in names])).float(), names


def label_map(mask: Tensor, names: list[int], inner: tuple[int, int], outer: tuple[int, int]) -> Labels:
    """Soft masks of tokens as a label map: bilinear to the encoder's input, each channel stretched, the largest wins.

    Args:
        mask: float (K, h, w).
        names: the K labels.
        inner: (height, width) of the encoder's input.
        outer: (height, width) of the result, which takes the nearest pixel.

    Returns:
        uint8 (H, W).

    Source: DINO's evaluation of video segmentation.
    """
    large = F.interpolate(mask[None].float(), size=inner, mode="bilinear", align_corners=False)[0]  # K, height, width
    least, most = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    large = torch.where(most > 0, (large - least) / (most - least).clamp_min(1e-12), large)
    winner = torch.tensor(names, dtype=torch.uint8)[large.argmax(dim=0).cpu()].numpy()
    if inner == outer:
        return winner
    return winner[np.ix_(_centres(inner[0], outer[0]), _centres(inner[1], outer[1]))]


def _centres(length: int, cells: int) -> npt.NDArray[np.int64]:
    """The pixel at the centre of each of `cells` equal parts of a length."""
    return np.minimum((2 * np.arange(cells) + 1) * length // (2 * cells), length - 1)
