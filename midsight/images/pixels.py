"""Pixels of any type and any number of channels, as uint8 RGB."""

from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, ShapeError

Pixels = npt.NDArray[np.uint8]
BAND = 1 << 16  # pixels that are mixed at a time


def from_array(array: npt.NDArray[Any], name: str) -> Pixels:
    """Pixels (H, W) or (H, W, 1 | 2 | 3 | 4) as uint8 (H, W, 3); the array itself where it is that already."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise ShapeError(f"{name}: expected pixels (H, W, 3), or (H, W) or (H, W, 1 | 2 | 4).")
    array = _scaled(array, name)
    if array.shape[2] in (2, 4):
        array = array if array.shape[2] == 4 else array[..., [0, 0, 0, 1]]
        return over_white(array)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()  # torch warns of memory that it must not write


def _scaled(array: npt.NDArray[Any], name: str) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return _high_byte(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise ShapeError(f"{name}: pixels of type {array.dtype}, expected uint8, uint16, bool or floating point.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # not the other way round: NaN must fail too
        raise InputError(
            f"{name}: floating-point pixels from {low:g} to {high:g}, expected [0, 1]. Scale them, or pass uint8."
        )
    scaled: Pixels = np.rint(array * 255).astype(np.uint8)
    return scaled


def to_8_bits(values: npt.NDArray[Any]) -> Pixels:
    """Grey of 16 bits, 32 bits or floating point: by the full scale of 16 bits, or of [0, 1], or else stretched."""
    if values.dtype == np.uint16:
        return _high_byte(values)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and values.dtype.kind in "iu" and high <= 65535:
        return _high_byte(finite.astype(np.uint16))
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return np.rint((finite - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _high_byte(values: npt.NDArray[np.uint16]) -> Pixels:
    return (values >> 8).astype(np.uint8)


def over_white(rgba: npt.NDArray[np.uint8]) -> Pixels:
    """RGBA pixels on white paper, rounded."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = np.empty((*rgba.shape[:2], 3), np.uint8)
    rows = max(1, BAND // rgba.shape[1])
    for start in range(0, len(rgba), rows):  # in bands: 16 bits of a whole large picture would be another gigabyte
        band = rgba[start : start + rows]
        alpha = band[..., 3].astype(np.uint16)
        white = 255 * (255 - alpha) + 128
        for channel in range(3):
            sums = band[..., channel] * alpha + white
            mixed[start : start + rows, :, channel] = (
                sums + (sums >> 8)
            ) >> 8  # by 255, rounded: exact up to 255 * 255
    return mixed
