"""Drawing on pictures: heat maps, marks, lines between two pictures, sheets with captions."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from midsight.errors import ShapeError
from midsight.images import Pixels
from midsight.tasks.visualize import lch_to_rgb

Values = npt.NDArray[np.float32]

OPACITY = 0.65  # of a heat map over a picture
_SMOOTH = 2  # lines are drawn so many times larger: Pillow knows no smooth ones
_GAP, _CAPTION, _FONT = 8, 22, 14  # pixels
_GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue in luma


@cache
def heat_colours() -> Pixels:
    """256 colours, uint8 (256, 3), from dark violet to pale yellow; their lightness alone tells the order."""
    t = torch.linspace(0, 1, 256)
    return lch_to_rgb(torch.stack([8 + 87 * t, 10 + 50 * (np.pi * t).sin(), 300 + 160 * t], dim=1)).numpy()


def heat_map(values: Values) -> Pixels:
    """Values (h, w) as colours uint8 (h, w, 3): 0 and less is the lowest colour, 1 and more the highest."""
    found: Pixels = heat_colours()[(values.clip(0, 1) * 255).round().astype(np.uint8)]
    return found


def overlay(pixels: Pixels, values: Values, opacity: float = OPACITY) -> Pixels:
    """A heat map over a picture without its colours; each value covers its part of the picture, unsmoothed.

    Args:
        pixels: uint8 (H, W, 3).
        values: float (h, w), from 0 to 1, over the whole picture.
        opacity: of the heat map, 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    grey = (pixels @ np.array(_GREY, np.float32))[:, :, None]
    heat = Image.fromarray(heat_map(values)).resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.NEAREST)
    blend: Pixels = ((1 - opacity) * grey + opacity * np.asarray(heat, np.float32)).round().astype(np.uint8)
    return blend


def scaled(pixels: Pixels, long_side: int) -> Pixels:
    """The picture with its longer side at so many pixels."""
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def marked(pixels: Pixels, x: float, y: float) -> Pixels:
    """A ring around one place, in pixels; white within black, so that it shows on anything."""
    page = Image.fromarray(pixels)
    draw = ImageDraw.Draw(page)
    for radius, width, colour in ((9, 5, "black"), (8, 2, "white")):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=width)
    return np.asarray(page)


def place_colours(places: Tensor, size: tuple[int, int]) -> Pixels:
    """A colour for each place of a picture: hue tells the column, lightness the row.

    Args:
        places: float (N, 2), x then y, pixels.
        size: (H, W) of the picture.

    Returns:
        uint8 (N, 3).
    """
    share = places / places.new_tensor([size[1], size[0]])
    return lch_to_rgb(
        torch.stack([85 - 35 * share[:, 1], torch.full_like(share[:, 0], 65), 300 * share[:, 0]], 1)
    ).numpy()


def pairs(
    a: Pixels, b: Pixels, places_a: Tensor, places_b: Tensor, *, numbered: bool = False, long_side: int = 640
) -> Pixels:
    """Two pictures side by side, with a line between each pair of places.

    Args:
        a, b: uint8 (H, W, 3), of any sizes.
        places_a, places_b: float (N, 2) each, x then y, pixels of the pictures.
        numbered: write 1, 2, ... beside the places.
        long_side: of each picture on the page, pixels.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: not as many places in one picture as in the other.
    """
    if places_a.shape != places_b.shape:
        raise ShapeError(f"places of both pictures come in pairs, got {len(places_a)} and {len(places_b)}")
    left, right = (scaled(picture, long_side) for picture in (a, b))
    shift = left.shape[1] + _GAP
    page = Image.new("RGB", (shift + right.shape[1], max(left.shape[0], right.shape[0])), "white")
    page.paste(Image.fromarray(left), (0, 0))
    page.paste(Image.fromarray(right), (shift, 0))
    page = page.resize((page.width * _SMOOTH, page.height * _SMOOTH))
    start = places_a * (left.shape[1] / a.shape[1])
    end = places_b * (right.shape[1] / b.shape[1]) + places_b.new_tensor([shift, 0])
    _lines(page, start * _SMOOTH, end * _SMOOTH, place_colours(places_a, (a.shape[0], a.shape[1])), numbered)
    return np.asarray(page.resize((page.width // _SMOOTH, page.height // _SMOOTH), Image.Resampling.BOX))


def captioned(rows: Sequence[Sequence[tuple[str, Pixels]]]) -> Pixels:
    """Pictures in rows, each under its caption; rows may differ in length.

    Args:
        rows: captions and pictures uint8 (H, W, 3).

    Returns:
        uint8 (H, W, 3).
    """
    shapes = [picture.shape for row in rows for _, picture in row]
    height, width = max(shape[0] for shape in shapes), max(max(shape[1] for shape in shapes), 140)
    across = max(len(row) for row in rows)
    page = Image.new("RGB", (across * (width + _GAP) + _GAP, len(rows) * (height + _CAPTION + _GAP)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=_FONT)
    for y, row in enumerate(rows):
        top = y * (height + _CAPTION + _GAP)
        for x, (caption, picture) in enumerate(row):
            left = _GAP + x * (width + _GAP)
            draw.text((left, top + 3), caption, fill="black", font=font)
            page.paste(Image.fromarray(picture), (left, top + _CAPTION))
    return np.asarray(page)


def _lines(page: Image.Image, start: Tensor, end: Tensor, colours: Pixels, numbered: bool) -> None:
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=_FONT * _SMOOTH)
    for number, (a, b, colour) in enumerate(zip(start.tolist(), end.tolist(), colours.tolist(), strict=True), 1):
        ink = tuple(colour)
        draw.line((*a, *b), fill=ink, width=_SMOOTH + 1)
        for x, y in (a, b):
            radius = 3 * _SMOOTH
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=ink, outline="black", width=_SMOOTH // 2
            )
            if numbered:
                draw.text(
                    (x + 2 * radius, y - 2 * radius), str(number), ink, font, stroke_width=_SMOOTH, stroke_fill="black"
                )
