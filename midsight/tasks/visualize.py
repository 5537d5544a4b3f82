"""Pictures of features: three principal components shown as lightness, chroma and hue.

Source: PE paper, B.3.2, equation 4 (blend with a blurred copy, PCA, LCh). The paper does not say which component
becomes which channel, nor the ranges, nor what the blur does at the border. Here: first component to L, second to C,
third to h (the order in which the paper names the channels), each stretched from its 1st to its 99th percentile onto
the ranges below, and the border repeated.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from midsight.errors import InputError, ShapeError

Pixels = npt.NDArray[np.uint8]

LIGHTNESS = (25.0, 95.0)  # of 0..100; black and white would hide the hue
CHROMA = (10.0, 75.0)  # sRGB holds no more at most hues
HUE = (0.0, 300.0)  # degrees; the full circle would give the two ends one colour
_BLUR_SIGMA = 1.0
_GAP, _TITLE = 8, 28  # pixels between pictures, and above them
_TO_LINEAR_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.969266, 1.8760108, 0.041556),
    (0.0556434, -0.2040259, 1.0572252),
)
_WHITE = (0.95047, 1.0, 1.08883)  # D65


def pca_pictures(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """Feature maps as colours, with one PCA over all of them, so that equal colours mean equal features.

    Args:
        maps: float (B, C, H, W), C of at least 3.
        mask: bool (B, H, W), tokens that the PCA looks at, for instance the foreground; the others come out black.

    Returns:
        uint8 (B, H, W, 3), sRGB.

    Raises:
        ShapeError: maps or mask of another shape.
        InputError: the mask leaves fewer than three tokens.
    """
    if maps.ndim != 4 or maps.shape[1] < 3:
        raise ShapeError(f"expected feature maps (B, C, H, W) with C of at least 3, got {tuple(maps.shape)}")
    tokens = blend_with_blur(maps.float()).movedim(1, -1)  # B, H, W, C
    keep = torch.ones(tokens.shape[:3], dtype=torch.bool, device=maps.device) if mask is None else mask
    if keep.shape != tokens.shape[:3]:
        raise ShapeError(f"mask is {tuple(keep.shape)}; expected {tuple(tokens.shape[:3])}")
    if int(keep.sum()) < 3:
        raise InputError(f"three components need at least 3 tokens, but there are {int(keep.sum())}")
    pictures = torch.zeros(*tokens.shape[:3], 3, dtype=torch.uint8, device=maps.device)
    pictures[keep] = lch_to_rgb(_stretch(principal_components(tokens[keep], 3)))
    return pictures


def pca_colours(maps: Sequence[Tensor]) -> list[Tensor]:
    """As `pca_pictures`, for maps of different shapes, with one PCA over all of them.

    Args:
        maps: float (C, H, W) each, the same C of at least 3.

    Returns:
        uint8 (H, W, 3) for each, sRGB.

    Raises:
        ShapeError: maps of another shape.
    """
    if not maps or any(one.ndim != 3 or one.shape[0] != maps[0].shape[0] or one.shape[0] < 3 for one in maps):
        raise ShapeError(f"expected maps (C, H, W) with one C of at least 3, got {[tuple(one.shape) for one in maps]}")
    tokens = [blend_with_blur(one[None].float())[0].flatten(1).T for one in maps]  # N, C
    colours = lch_to_rgb(_stretch(principal_components(torch.cat(tokens), 3)))
    parts = colours.split([len(part) for part in tokens])
    return [part.unflatten(0, (one.shape[1], one.shape[2])) for part, one in zip(parts, maps, strict=True)]


def sheet(columns: Sequence[Sequence[Pixels]], titles: Sequence[str], cell: int = 336) -> Pixels:
    """Pictures side by side under titles, each stretched to a square without smoothing small maps away.

    Args:
        columns: pictures uint8 (H, W, 3) of any size, a list for each column, all of the same length.
        titles: one for each column.
        cell: side of a square, pixels.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: columns of different lengths, or another number of titles.
    """
    if not columns or len({len(column) for column in columns}) != 1 or len(titles) != len(columns):
        lengths = [len(column) for column in columns]
        raise ShapeError(f"expected columns of one length and a title for each, got {lengths} and {len(titles)} titles")
    page = Image.new("RGB", (len(columns) * (cell + _GAP) + _GAP, len(columns[0]) * (cell + _GAP) + _TITLE), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=14)
    for x, (column, title) in enumerate(zip(columns, titles, strict=True)):
        left = _GAP + x * (cell + _GAP)
        draw.text((left, 6), title, fill="black", font=font)
        for y, picture in enumerate(column):
            smooth = max(picture.shape[:2]) > cell
            method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
            square = Image.fromarray(picture).resize((cell, cell), method)
            page.paste(square, (left, _TITLE + y * (cell + _GAP)))
    return np.asarray(page)


def blend_with_blur(maps: Tensor) -> Tensor:
    """Half the map, half its Gaussian blur (kernel 3, sigma 1): keeps a few odd global tokens from ruling the PCA.

    Args:
        maps: float (B, C, H, W).

    Returns:
        float (B, C, H, W).
    """
    offsets = torch.tensor([-1.0, 0.0, 1.0], device=maps.device, dtype=maps.dtype)
    line = torch.exp(-(offsets**2) / (2 * _BLUR_SIGMA**2))
    line = line / line.sum()
    channels = maps.shape[1]
    across = line.view(1, 1, 1, 3).repeat(channels, 1, 1, 1)
    blurred = F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), across, groups=channels)
    blurred = F.conv2d(blurred, across.transpose(2, 3), groups=channels)
    return 0.5 * maps + 0.5 * blurred


def principal_components(tokens: Tensor, count: int) -> Tensor:
    """Scores of the first principal components, largest variance first.

    The sign of a component is free; here its largest loading is positive, so that equal features give equal pictures.

    Args:
        tokens: float (N, C).
        count: components wanted, at most C.

    Returns:
        float32 (N, count).
    """
    centred = tokens.double() - tokens.double().mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1)[:, :count]  # eigh sorts upwards
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    scores: Tensor = centred @ (axes * largest.sign())
    return scores.float()


def lch_to_rgb(lch: Tensor) -> Tensor:
    """Colours from cylindrical CIELAB to sRGB; those outside sRGB are clipped.

    Args:
        lch: float (..., 3): lightness 0..100, chroma from 0, hue in degrees; white point D65.

    Returns:
        uint8 (..., 3).
    """
    lightness, chroma, hue = lch.double().unbind(-1)
    angle = torch.deg2rad(hue)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + chroma * angle.cos() / 500, fy, fy - chroma * angle.sin() / 200], dim=-1)
    xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * f.new_tensor(_WHITE)
    linear = (xyz @ f.new_tensor(_TO_LINEAR_RGB).T).clamp(0, 1)
    encoded = torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return (encoded.clamp(0, 1) * 255).round().to(torch.uint8)


def _stretch(scores: Tensor) -> Tensor:
    """Component scores (N, 3) onto the ranges of L, C and h; a component without spread lands in the middle."""
    low, high = (torch.quantile(scores, q, dim=0) for q in (0.01, 0.99))
    spread = high - low
    unit = torch.where(spread > 0, (scores - low) / spread.clamp_min(1e-12), torch.full_like(scores, 0.5)).clamp(0, 1)
    bounds = scores.new_tensor([LIGHTNESS, CHROMA, HUE])
    return bounds[:, 0] + unit * (bounds[:, 1] - bounds[:, 0])
