"""`thumb+tile`: a large picture as tiles of the encoder's own size, with the whole picture squashed in front.

choose_grid(1000, 700, max_tiles=16)   (columns, rows)
tile_image("page.png", max_tiles=16)   float32 (1 + columns * rows, 3, 448, 448)

Source: published image transform of PerceptionLM; see `choose_grid` for what it does where it could be guessed
otherwise.
"""

import warnings
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Any

import torch
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError
from midsight.images import DEFAULT_LIMITS, Limits, Pixels, load_image
from midsight.transforms.image import from_config, resize_pixels

Grid = tuple[int, int]  # columns, rows

TILE = 448  # pixels, the side of every published tile
FAR_ABOVE = 2  # times the tile, from which an untiled page loses its small print; our choice


def choose_grid(width: int, height: int, max_tiles: int, tile: int = TILE) -> Grid:
    """The grid of tiles that a picture gets.

    Of the canvases that are at least as large as the picture, the one in which it would be largest with its aspect
    kept, so a small picture gets the largest canvas of its shape; the later of equals. Where no canvas is large
    enough, the largest of the ratio next to the picture's own, on the side of the square.

    Args:
        width, height: of the picture, pixels.
        max_tiles: most tiles, without the thumbnail.
        tile: side of a tile, pixels.

    Returns:
        (columns, rows), columns * rows <= max_tiles.

    Raises:
        ConfigError: a number below 1.

    Source: published image transform of PerceptionLM, `thumb+tile`. It keeps no aspect when it resizes: the canvas is
    filled.
    """
    if min(width, height, max_tiles, tile) < 1:
        raise ConfigError(
            f"width {width}, height {height}, max_tiles {max_tiles} and tile {tile} must be at least 1 each"
        )
    grids = _grids(max_tiles)
    large_enough = [grid for grid in grids if grid[0] * tile >= width and grid[1] * tile >= height]
    if large_enough:
        shorter = [_shorter_side(width, height, grid, tile) for grid in large_enough]
        best = max(shorter)
        return next(grid for grid, side in zip(large_enough[::-1], shorter[::-1], strict=True) if side == best)
    ratio = _nearest_ratio(width, height, grids)
    return max((grid for grid in grids if Fraction(*grid) == ratio), key=lambda grid: grid[0])


def tile_image(
    image: Any, max_tiles: int, tile: int = TILE, thumbnail: bool = True, limits: Limits = DEFAULT_LIMITS
) -> Tensor:
    """A picture as tiles, row by row, the thumbnail first.

    Args:
        image: anything that `midsight.images.load_image` takes.
        max_tiles: most tiles, without the thumbnail.
        tile: side of a tile, pixels.
        thumbnail: put the whole picture, squashed to one tile, in front.
        limits: most pixels and bytes of the picture.

    Returns:
        float32 (n + thumbnail, 3, tile, tile) in [-1, 1].

    Raises:
        MediaError: the picture cannot be read, or is beyond the limits.
        ConfigError: `max_tiles` or `tile` below 1.

    Source: published image transform of PerceptionLM; bicubic, antialiased, mean and standard deviation 0.5.
    """
    return tile_pixels(load_image(image, limits=limits), max_tiles, tile, thumbnail)


def tile_pixels(pixels: Pixels, max_tiles: int, tile: int = TILE, thumbnail: bool = True) -> Tensor:
    """`tile_image` of a picture that is already decoded: uint8 (H, W, 3)."""
    height, width = pixels.shape[:2]
    columns, rows = choose_grid(width, height, max_tiles, tile)
    canvas = resize_pixels(pixels, rows * tile, columns * tile, "bicubic")  # 3, H, W
    tiles = canvas.unflatten(2, (columns, tile)).unflatten(1, (rows, tile))  # 3, rows, tile, columns, tile
    tiles = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)  # n, 3, tile, tile
    if thumbnail:
        tiles = torch.cat((resize_pixels(pixels, tile, tile, "bicubic")[None], tiles))
    return from_config(PreprocessConfig(tile, interpolation="bicubic")).normalize(tiles)


def warn_if_unfit(name: str, size: tuple[int, int], tiled: bool, tile: int = TILE) -> None:
    """Warns, once for each model and reason, where tiles and encoder do not belong together.

    Args:
        name: published name of the encoder; others are let pass.
        size: width and height of the picture, pixels.
        tiled: whether the picture was cut into more than one tile.
    """
    if not name.startswith("PE-Lang-"):
        return
    aware = name.endswith("-Tiling")
    if tiled and not aware:
        _once(f"{name} was not trained on tiles: use {name}-Tiling for tiled pictures.")
    if not tiled and max(size) > FAR_ABOVE * tile:
        other = name if aware else f"{name}-Tiling"
        _once(
            f"a picture of {size[0]}x{size[1]} becomes {tile}x{tile} without tiles, which loses its small print: "
            f"use {other} with max_tiles, 16 for instance."
        )


def warn_if_untiled(name: str, width: int, height: int) -> None:
    """`warn_if_unfit` of a picture that is squashed to one square."""
    warn_if_unfit(name, (width, height), tiled=False)


_said: set[str] = set()


def _once(message: str) -> None:
    key = message.split(":")[-1]
    if key not in _said:
        _said.add(key)
        warnings.warn(message, stacklevel=4)


@lru_cache
def _grids(max_tiles: int) -> tuple[Grid, ...]:
    """All grids of at most `max_tiles`; those of one ratio stand together, where that ratio came first."""
    by_ratio: dict[Fraction, list[Grid]] = {}
    for count in range(max_tiles, 0, -1):
        for columns in range(1, count + 1):
            if count % columns == 0:
                grid = columns, count // columns
                by_ratio.setdefault(Fraction(*grid), []).append(grid)
    return tuple(grid for grids in by_ratio.values() for grid in grids)


def _shorter_side(width: int, height: int, grid: Grid, tile: int) -> float:
    """Shorter side of the picture fitted into the grid's canvas; in the published order, since rounding decides."""
    scale = width / height
    fit = min(grid[0] * tile / width, grid[1] * tile / height)
    if scale > 1:
        return floor(fit * width / scale)
    return floor(fit * height * scale) if scale < 1 else fit * width


def _nearest_ratio(width: int, height: int, grids: tuple[Grid, ...]) -> Fraction:
    """Of a picture larger than all canvases: the ratio of columns to rows that it gets."""
    own = width / height
    if own >= 1:
        return max(Fraction(*grid) for grid in grids if grid[0] / grid[1] <= own)
    above = [grid for grid in grids if grid[0] / grid[1] > own]
    return Fraction(*min(above, key=lambda grid: abs(grid[1] / grid[0] - 1 / own)))
