"""Detections over a picture: masks, boxes, names, scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from midsight.errors import ShapeError
from midsight.tasks.draw.colours import class_colours
from midsight.tasks.draw.text import Writer, readable_on

Pixels = npt.NDArray[np.uint8]

_OPACITY = 0.45  # of masks
_LINE_SHARE = 250  # a line's width is this part of the shorter side


def draw_detections(pixels: Pixels, found: Mapping[str, Any], names: Sequence[str] = ()) -> Pixels:
    """Boxes with names and scores, over masks where there are some; colours by class, the best on top.

    Args:
        pixels: uint8 (H, W, 3), RGB; is not changed.
        found: boxes (N, 4) in pixels, scores (N,), labels (N,), maybe masks (N, 1, H, W), as arrays or CPU tensors.
        names: by label; a label beyond them is called by its number.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: masks of another size than the picture.
    """
    boxes, scores, labels = (np.asarray(found[key]) for key in ("boxes", "scores", "labels"))
    order = np.argsort(scores, kind="stable")  # the best last, on top
    colours = class_colours(int(labels.max()) + 1 if len(labels) else 0)
    page = pixels.copy()
    if "masks" in found:
        masks = np.asarray(found["masks"])[:, 0] >= 0.5
        if masks.shape[1:] != pixels.shape[:2]:
            raise ShapeError(f"masks of {masks.shape[1:]} over a picture of {pixels.shape[:2]} (rows, columns)")
        for i in order:
            tint(page, masks[i], colours[labels[i]], _OPACITY)
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    writer = Writer(draw, image.width, image.height)
    line = max(1, min(image.size) // _LINE_SHARE)
    for i in order:
        _box(draw, boxes[i], image.size, tuple(colours[labels[i]].tolist()), line)
    for i in order:  # behind all boxes, so that no line runs through a name
        colour = tuple(colours[labels[i]].tolist())
        left, top = (int(np.nan_to_num(value).clip(-1e6, 1e6)) for value in boxes[i][:2])
        text = f"{name_of(labels[i], names)} {scores[i]:.2f}"
        writer.write(text, left, top - writer.line, readable_on(colour), colour)
    return np.asarray(image)


def name_of(label: int, names: Sequence[str]) -> str:
    """A class's name, or its number where it has none."""
    return names[label] if 0 <= label < len(names) and names[label] else f"class {label}"


def tint(page: Pixels, where: npt.NDArray[np.bool_], colour: npt.NDArray[np.uint8], opacity: float) -> None:
    """Mixes a colour into some pixels, in place."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    if not len(rows):
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # masks are small: most pixels are not touched
    inside = where[part]
    mixed = page[part][inside] * np.float32(1 - opacity) + colour.astype(np.float32) * np.float32(opacity)
    page[part][inside] = np.rint(mixed).astype(np.uint8)


def _box(
    draw: ImageDraw.ImageDraw, box: npt.NDArray[Any], size: tuple[int, int], colour: tuple[int, ...], line: int
) -> None:
    width, height = size
    left, top, right, bottom = np.nan_to_num(box.astype(np.float64))
    corners = (
        int(np.clip(left, 0, width - 1)),
        int(np.clip(top, 0, height - 1)),
        int(np.clip(np.ceil(right) - 1, 0, width - 1)),
        int(np.clip(np.ceil(bottom) - 1, 0, height - 1)),
    )
    if corners[0] <= corners[2] and corners[1] <= corners[3]:
        draw.rectangle(corners, outline=colour, width=line)
