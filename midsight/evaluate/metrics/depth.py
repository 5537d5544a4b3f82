"""Errors of depth, as NYU Depth v2 is customarily measured: for each picture, then the mean over pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, ShapeError

NYU_SIZE = (480, 640)
NYU_CROP = (slice(45, 471), slice(41, 601))  # rows, columns: the customary evaluation crop of NYU at 480 x 640


@dataclass(frozen=True)
class DepthProtocol:
    """Which pixels count. The defaults are those of NYU Depth v2."""

    nearest: float = 1e-3  # metres; truth must lie between, predictions are cut to it
    farthest: float = 10.0
    nyu_crop: bool = True  # leave out the border, where the Kinect saw nothing


def depth_errors(
    predicted: npt.NDArray[Any], truth: npt.NDArray[Any], protocol: DepthProtocol | None = None
) -> dict[str, float]:
    """Errors of one picture.

    Args:
        predicted, truth: float (H, W), metres; truth is 0 where nothing is known.

    Returns:
        "RMSE" (metres), "AbsRel", "SqRel" (metres), "RMSElog", "log10", and "delta1", "delta2", "delta3": the shares
        of pixels within a factor of 1.25, its square and its cube.

    Raises:
        ShapeError: shapes that differ, or not 480 x 640 where the NYU crop is asked for.
        InputError: no pixel counts.
    """
    protocol = protocol or DepthProtocol()
    if predicted.shape != truth.shape or truth.ndim != 2:
        raise ShapeError(f"expected two depth maps (H, W) of one size, got {predicted.shape} and {truth.shape}")
    counted = (truth > protocol.nearest) & (truth < protocol.farthest)
    if protocol.nyu_crop:
        if truth.shape != NYU_SIZE:
            raise ShapeError(f"the NYU crop is for {NYU_SIZE[0]} x {NYU_SIZE[1]} pixels, got {truth.shape}")
        inside = np.zeros(truth.shape, bool)
        inside[NYU_CROP] = True
        counted &= inside
    if not counted.any():
        raise InputError(f"no pixel has a depth between {protocol.nearest} and {protocol.farthest} m where it counts")
    p = predicted[counted].astype(np.float64).clip(protocol.nearest, protocol.farthest)
    t = truth[counted].astype(np.float64)
    factor = np.maximum(p / t, t / p)
    return {
        "RMSE": float(np.sqrt(((p - t) ** 2).mean())),
        "AbsRel": float((np.abs(p - t) / t).mean()),
        "SqRel": float(((p - t) ** 2 / t).mean()),
        "RMSElog": float(np.sqrt(((np.log(p) - np.log(t)) ** 2).mean())),
        "log10": float(np.abs(np.log10(p) - np.log10(t)).mean()),
        "delta1": float((factor < 1.25).mean()),
        "delta2": float((factor < 1.25**2).mean()),
        "delta3": float((factor < 1.25**3).mean()),
    }


def mean_errors(errors: list[dict[str, float]]) -> dict[str, float]:
    """Means over pictures.

    Raises:
        InputError: no picture.
    """
    if not errors:
        raise InputError("there is nothing to measure: no pictures")
    return {name: float(np.mean([found[name] for found in errors])) for name in errors[0]}
