"""Pictures that hold numbers: label maps and depth maps as PNG, read as they are stored and written with a palette."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.errors import InputError, MediaError, ShapeError
from midsight.files import StrPath, atomic_write
from midsight.images import DEFAULT_LIMITS, Limits, open_stored

Numbers = npt.NDArray[np.uint16]


def read_numbers(source: StrPath, *, limits: Limits = DEFAULT_LIMITS) -> Numbers:
    """The numbers of a grey or indexed picture as they are stored, never scaled and never turned.

    Args:
        source: a PNG or another lossless picture of one channel: indices into a palette, 8 or 16 bits, or black and
            white (0 and 1).
        limits: most pixels and bytes.

    Returns:
        uint16 (H, W).

    Raises:
        MediaError: missing, cut, beyond the limits, in colours, compressed with loss, or with values beyond 65535.
    """
    image = open_stored(source, limits)
    if image.format in ("JPEG", "MPO"):
        raise MediaError(f"{source}: a JPEG, whose compression changes the numbers. Expected PNG.")
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise MediaError(
            f"{source}: a picture in colours (mode {image.mode}); expected one number a pixel (grey or indexed). "
            "Store labels as an indexed or grey PNG."
        )
    values: npt.NDArray[Any] = np.asarray(image)
    if values.size and (int(values.min()) < 0 or int(values.max()) > 65535):
        raise MediaError(f"{source}: values from {values.min()} to {values.max()}; expected 0 to 65535")
    return values.astype(np.uint16)


def nearest(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """A map of numbers at another size: those at the centres of its cells, never mixed."""
    rows = (2 * np.arange(height) + 1) * values.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * values.shape[1] // (2 * width)
    return np.ascontiguousarray(values[np.ix_(rows, columns)])


def write_labels(path: StrPath, labels: npt.NDArray[Any], colours: npt.NDArray[np.uint8] | None = None) -> None:
    """A label map as an indexed PNG, written whole or not at all.

    Args:
        labels: integer (H, W), 0 to 255.
        colours: uint8 (N, 3), of labels 0 to N - 1; by default those of Pascal VOC and DAVIS.

    Raises:
        ShapeError: not a map of integers.
        InputError: a label outside 0 to 255.
        OutputError: the file cannot be written.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise ShapeError(f"{path}: expected integer labels (H, W), got {labels.dtype} {labels.shape}")
    if int(labels.min()) < 0 or int(labels.max()) > 255:
        raise InputError(f"{path}: labels from {labels.min()} to {labels.max()}; an indexed PNG holds 0 to 255")
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8)).convert("P")
    image.putpalette(palette() if colours is None else np.ascontiguousarray(colours[:256]).tobytes())
    write_png(path, image)


def write_numbers(path: StrPath, numbers: Numbers) -> None:
    """A map uint16 (H, W) as a grey PNG of 16 bits, written whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_png(path, Image.fromarray(np.ascontiguousarray(numbers, dtype=np.uint16)))


def write_depth(path: StrPath, metres: npt.NDArray[Any], scale: float = 1000.0) -> None:
    """A depth map as a 16-bit PNG, by default in millimetres; what is beyond 65535 is cut to it.

    Args:
        metres: float (H, W); 0 where nothing is known.
        scale: steps in a metre.

    Raises:
        ShapeError: not a map.
        OutputError: the file cannot be written.
    """
    if metres.ndim != 2 or not metres.size:
        raise ShapeError(f"{path}: expected depth (H, W), got {metres.shape}")
    steps = np.rint(np.nan_to_num(metres.astype(np.float64)) * scale).clip(0, 65535)
    write_numbers(path, steps.astype(np.uint16))


def write_png(path: StrPath, image: Image.Image) -> None:
    """A picture as PNG, written whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    with atomic_write(Path(path)) as file:
        file.write(buffer.getbuffer())


@cache
def palette() -> bytes:
    """256 colours: the bits of a label, three at a time, become the high bits of red, green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    labels = np.arange(256)
    for step in range(8):
        for channel in range(3):
            bit = (labels >> (3 * step + channel)) & 1
            colours[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return colours.tobytes()
