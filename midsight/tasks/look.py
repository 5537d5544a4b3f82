"""Pictures of any shape as an encoder sees them: pixels, input size, feature maps, and places in all three."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from midsight.errors import ConfigError, InputError
from midsight.images import Pixels, describe, load_image
from midsight.tasks.features import DenseEncoder, fitting

Point = tuple[float, float]  # x, y in pixels of the original picture; (0.5, 0.5) is the middle of the first pixel


@dataclass(frozen=True)
class InputSize:
    """The size at which a picture is encoded: its longer side, or else the side of a square that it is squashed to."""

    long_side: int | None = None  # pixels; the shape is kept, larger and smaller pictures are scaled to it
    square: int | None = None

    def __post_init__(self) -> None:
        if (self.long_side is None) == (self.square is None):
            raise ConfigError(f"exactly one of long_side and square decides the size, got {self}")
        if (self.long_side or self.square or 0) < 1:
            raise ConfigError(f"the input must be at least 1 pixel wide, got {self}")

    def of(self, height: int, width: int, patch_size: int) -> tuple[int, int]:
        """(height, width) of the encoder's input for such a picture: multiples of the patch size, at least one."""
        if self.long_side is None:
            side = fitting(self.square or 0, patch_size)
            return side, side
        scale = self.long_side / max(height, width)
        return fitting(height * scale, patch_size), fitting(width * scale, patch_size)


@dataclass(frozen=True)
class Look:
    """A picture and what an encoder makes of it.

    Attributes:
        name: of the source, for people.
        pixels: uint8 (H, W, 3), of the original size.
        images: float32 (1, 3, H', W'), the encoder's input.
        grid: (rows, columns) of its tokens.
    """

    name: str
    pixels: Pixels
    images: Tensor
    grid: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the original picture."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def cell(self, point: Point) -> tuple[int, int]:
        """(row, column) of the token that a place of the picture lies in.

        Raises:
            InputError: the place lies outside the picture.
        """
        check_points([point], self.size, self.name)
        (height, width), (rows, columns) = self.size, self.grid
        return int(point[1] * rows / height), int(point[0] * columns / width)


def look_at(source: Any, encoder: DenseEncoder, size: InputSize) -> Look:
    """A picture made ready for an encoder.

    Args:
        source: of any kind that `midsight.images.load_image` takes.

    Raises:
        MediaError: the picture cannot be read.
    """
    pixels = load_image(source)
    height, width = size.of(pixels.shape[0], pixels.shape[1], encoder.patch_size)
    grid = height // encoder.patch_size, width // encoder.patch_size
    return Look(describe(source), pixels, encoder.images(pixels, height, width)[None], grid)


def check_points(points: list[Point], size: tuple[int, int], name: str) -> None:
    """Nothing, if all places (x, y) lie in a picture of size (H, W).

    Raises:
        InputError: one does not.
    """
    height, width = size
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"{name}: the point {x:g},{y:g} lies outside the picture, which has {width}x{height} pixels; "
                f"expected x from 0 to {width - 1} and y from 0 to {height - 1}"
            )


def token_centres(cells: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Centres of tokens in pixels.

    Args:
        cells: int64 (N,), indices in raster order.
        grid: (rows, columns) of the map.
        size: (H, W) of the picture that it covers.

    Returns:
        float32 (N, 2), x then y.
    """
    rows, columns = grid
    places = torch.stack([cells % columns, cells // columns], dim=1) + 0.5  # N, 2
    return places * places.new_tensor([size[1] / columns, size[0] / rows])
