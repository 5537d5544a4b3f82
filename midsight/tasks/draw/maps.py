"""Maps over a picture: classes with their legend, and depth as colours with its scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from midsight.errors import InputError, ShapeError
from midsight.tasks.draw.boxes import Pixels, name_of
from midsight.tasks.draw.colours import class_colours, depth_colours
from midsight.tasks.draw.text import PAD, Writer, readable_on

_OPACITY = 0.55  # of classes
_LEGEND_HEIGHT = 0.6  # most of the picture's height
_LEGEND_ROWS = 16
_UNKNOWN = (128, 128, 128)  # where no depth is known; none of the scale's colours is grey
_PERCENTILES = (1.0, 99.0)  # of the known depths: a few wild pixels must not take up the scale
_DARK, _WHITE = (24, 24, 24), (255, 255, 255)


def draw_classes(pixels: Pixels, labels: npt.NDArray[Any], names: Sequence[str] = (), legend: bool = True) -> Pixels:
    """A class map over its picture, with a legend of the classes that are in it, the largest first.

    Args:
        pixels: uint8 (H, W, 3), RGB; is not changed.
        labels: integer (H, W), from 0.
        names: by class; a class beyond them is called by its number.
        legend: write it, as far as there is room for it.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: a map of another size than the picture.
    """
    if labels.shape != pixels.shape[:2] or labels.dtype.kind not in "iu":
        raise ShapeError(f"expected an integer map {pixels.shape[:2]}, got {labels.dtype} {labels.shape}")
    counts = np.bincount(labels.ravel())
    colours = class_colours(len(counts))
    # Two tables of bytes, added: many times faster than the same in floats, and at most 1 of 255 beside it.
    kept = np.rint(np.arange(256) * (1 - _OPACITY)).astype(np.uint8)
    page = kept[pixels] + np.rint(colours * _OPACITY).astype(np.uint8)[labels]
    if not legend:
        return page
    image = Image.fromarray(page)
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    rows = [(colours[k], f"{_percent(counts[k] / labels.size)} {name_of(k, names)}") for k in order]
    _legend(image, rows)
    return np.asarray(image)


def depth_range(metres: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Near and far for a scale: the 1st and 99th percentile of what is known, or None where nothing is."""
    known = metres[np.isfinite(metres) & (metres > 0)]
    if not known.size:
        return None
    near, far = np.percentile(known, _PERCENTILES)
    return float(near), float(far)


def draw_depth(metres: npt.NDArray[Any], scale: tuple[float, float] | None = None) -> Pixels:
    """Depth as colours, with both ends of the scale named in metres: near is bright yellow, far dark blue.

    Args:
        metres: float (H, W); 0 or not finite where nothing is known, which comes out grey.
        scale: near and far, metres; depths beyond them take the colour of the end. By default `depth_range`.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: not a map.
        InputError: far is nearer than near.
    """
    if metres.ndim != 2 or not metres.size:
        raise ShapeError(f"expected depth (H, W), got {metres.shape}")
    scale = depth_range(metres) if scale is None else scale
    if scale is None:
        return np.full((*metres.shape, 3), _UNKNOWN, np.uint8)
    near, far = scale
    if not 0 <= near <= far:
        raise InputError(f"a scale of depth runs from near to far, got {near:g} to {far:g} m")
    known = np.isfinite(metres) & (metres > 0)
    share = (np.where(known, metres, near) - near) / max(far - near, 1e-9)
    table = depth_colours()
    page = table[np.rint(share.clip(0, 1) * (len(table) - 1)).astype(np.intp)]
    page[~known] = _UNKNOWN
    image = Image.fromarray(page)
    _scale(image, near, far)
    return np.asarray(image)


def _legend(image: Image.Image, rows: Sequence[tuple[npt.NDArray[np.uint8], str]]) -> None:
    """Swatches with names in the lower left corner."""
    draw = ImageDraw.Draw(image)
    writer = Writer(draw, image.width, image.height)
    room = min(_LEGEND_ROWS, int(image.height * _LEGEND_HEIGHT) // writer.line)
    if room < 1:
        return
    left_out = len(rows) - room
    texts = [text for _, text in rows]
    if left_out > 0:
        texts = [*texts[: room - 1], f"{left_out + 1} more"]
    swatch = writer.line
    texts = [writer.fit(text, image.width - swatch) for text in texts]
    if not all(texts):
        return
    across = swatch + max(map(writer.measure, texts))
    top = image.height - len(texts) * writer.line
    draw.rectangle((0, top, across - 1, image.height - 1), fill=_DARK)
    for number, text in enumerate(texts):
        y = top + number * writer.line
        if left_out <= 0 or number < room - 1:
            corners = (PAD, y + PAD, swatch - PAD - 1, y + writer.line - PAD - 1)
            draw.rectangle(corners, fill=tuple(rows[number][0].tolist()))
        writer.write(text, swatch, y, _WHITE)


def _scale(image: Image.Image, near: float, far: float) -> None:
    """A bar of the colours along the lower edge, with the metres of its ends at its ends."""
    draw = ImageDraw.Draw(image)
    writer = Writer(draw, image.width, image.height)
    texts = _metres(near), _metres(far)
    widths = [writer.measure(text) for text in texts]
    if sum(widths) + writer.line > image.width or 2 * writer.line > image.height:
        return  # no room to be read
    table = depth_colours()
    top, height = image.height - writer.line, writer.line
    at = np.rint(np.linspace(0, len(table) - 1, image.width)).astype(np.intp)
    image.paste(Image.fromarray(np.repeat(table[at][None], height, axis=0)), (0, top))
    first, last = (tuple(table[i].tolist()) for i in (0, -1))
    writer.write(texts[0], 0, top, readable_on(first))
    writer.write(texts[1], image.width - widths[1], top, readable_on(last))


def _metres(value: float) -> str:
    return f"{value:.2f} m" if value < 10 else f"{value:.0f} m"


def _percent(share: float) -> str:
    return "<1%" if share < 0.005 else f"{share:.0%}"
