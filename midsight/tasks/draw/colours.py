"""Colours for classes and for depth, both made in cylindrical CIELAB."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from midsight.tasks.visualize import lch_to_rgb

Colours = npt.NDArray[np.uint8]  # (N, 3), sRGB

_GOLDEN_ANGLE = 137.508  # degrees: any number of hues in a row keep far apart
_LIGHTNESS, _CHROMA = (65.0, 50.0, 80.0), 62.0  # in turn, so that neighbours in hue differ as well
_NEAR, _FAR = (92.0, 100.0), (18.0, -75.0)  # lightness and hue: yellow over red and violet to dark blue
_DEPTH_CHROMA = 50.0  # sRGB holds it all the way but for the darkest tenth
_DEPTH_STEPS = 256


def class_colours(count: int) -> Colours:
    """The colours of classes 0 to `count` - 1; a class has the same colour whatever the count."""
    labels = torch.arange(count, dtype=torch.float64)
    lightness = torch.tensor(_LIGHTNESS, dtype=torch.float64)[torch.arange(count) % len(_LIGHTNESS)]
    lch = torch.stack([lightness, torch.full_like(labels, _CHROMA), labels * _GOLDEN_ANGLE % 360], dim=-1)
    return lch_to_rgb(lch).numpy().reshape(-1, 3)


@cache
def depth_colours() -> Colours:
    """256 colours from near (bright yellow) to far (dark blue).

    Each step is as large to the eye as the others (equal distances in CIELAB), and lightness only falls, so that the
    order of distances survives in grey.
    """
    fine = torch.linspace(0, 1, 4096, dtype=torch.float64)
    lch = _curve(fine)
    angle = torch.deg2rad(lch[:, 2])
    lab = torch.stack([lch[:, 0], lch[:, 1] * angle.cos(), lch[:, 1] * angle.sin()], dim=-1)
    length = np.concatenate([[0.0], np.cumsum((lab[1:] - lab[:-1]).norm(dim=1).numpy())])
    even = np.interp(np.linspace(0, length[-1], _DEPTH_STEPS), length, fine.numpy())
    return lch_to_rgb(_curve(torch.from_numpy(even))).numpy()


def _curve(t: torch.Tensor) -> torch.Tensor:
    """The path of `depth_colours`, t from 0 (near) to 1 (far), as (N, 3) lightness, chroma, hue."""
    lightness = _NEAR[0] + t * (_FAR[0] - _NEAR[0])
    hue = _NEAR[1] + t * (_FAR[1] - _NEAR[1])
    chroma = _DEPTH_CHROMA - 180 * (t - 0.9).clamp_min(0)
    return torch.stack([lightness, chroma, hue], dim=-1)
