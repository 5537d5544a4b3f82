"""Clips made of a picture: a window moves over it, or closes in on its middle.

Nothing in the picture moves, and what the camera does is known exactly.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from midsight.errors import ConfigError
from midsight.images import Pixels

PART = 0.7  # of each side of the picture: the window's while it moves, and the smallest of a zoom
# where the window starts and ends (right, down), in parts of the way that it can go; the names are those of
# `midsight.data.scenes.camera.MOVES`
_WAYS = {
    "pan left": ((1.0, 0.5), (0.0, 0.5)),
    "pan right": ((0.0, 0.5), (1.0, 0.5)),
    "tilt up": ((0.5, 1.0), (0.5, 0.0)),
    "tilt down": ((0.5, 0.0), (0.5, 1.0)),
}
_ZOOMS = {"zoom in": (1.0, PART), "zoom out": (PART, 1.0)}
WINDOW_MOVES = (*_WAYS, *_ZOOMS)


def move_over(picture: Pixels, move: str, frames: int, longest: int) -> Iterator[Pixels]:
    """The frames of a clip.

    Args:
        picture: uint8 (H, W, 3).
        move: one of `WINDOW_MOVES`.
        frames: how many, at least 2.
        longest: pixels of the longer side of a frame; its shape is the picture's.

    Yields:
        uint8 (h, w, 3).

    Raises:
        ConfigError: an unknown move, or fewer than 2 frames.
    """
    if move not in WINDOW_MOVES:
        raise ConfigError(f"{move!r} is no move of a window; known are {', '.join(WINDOW_MOVES)}")
    if frames < 2:
        raise ConfigError(f"a move needs at least 2 frames, got {frames}")
    image = Image.fromarray(picture)
    scale = longest / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    for k in range(frames):
        box = _window(image.size, move, k / (frames - 1))
        yield np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), np.uint8)


def _window(size: tuple[int, int], move: str, t: float) -> tuple[float, float, float, float]:
    """Left, upper, right, lower at time t in [0, 1]."""
    if move in _ZOOMS:
        start, end = _ZOOMS[move]
        part, place = start + (end - start) * t, (0.5, 0.5)
    else:
        (x, y), (to_x, to_y) = _WAYS[move]
        part, place = PART, (x + (to_x - x) * t, y + (to_y - y) * t)
    left, upper = (place[side] * (1 - part) * size[side] for side in (0, 1))
    return left, upper, min(left + part * size[0], size[0]), min(upper + part * size[1], size[1])
