"""A loaded model as the encoder under a dense task, with heads that were trained on it.

`open_segmenter` and `open_depth` turn what a user says into something to call, as `open_detector` does for detectors.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from midsight.api.loading import Dtype, load
from midsight.api.opened import Opened, shipped
from midsight.api.perception import Perception
from midsight.errors import CheckpointError, InputError, UnknownModelError
from midsight.files import content_hash
from midsight.tasks.depth import DepthConfig, DepthEstimator
from midsight.tasks.features import DenseEncoder
from midsight.tasks.saved import WEIGHTS, load_head, read_head
from midsight.tasks.segmentation import SegmentConfig, Segmenter
from midsight.tasks.windows import WindowConfig


def open_segmenter(
    head: str | Path | None = None,
    model: str | Path | None = None,
    *,
    size: int | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    revision: str | None = None,
    threads: int | None = None,
) -> Opened[npt.NDArray[np.uint16]]:
    """Semantic segmentation: a picture to classes uint16 (H, W).

    Args:
        head: folder of a trained head; None: the one that comes with the package.
        model: the encoder that it was trained on; None: the one that the head names.
        size: pixels of the shorter side that pictures are scaled to; None: what the head was trained on.
        device, dtype, revision, threads: of the encoder, as `midsight.load`.

    Raises:
        InputError: no head is given and none comes with the package, or the head's encoder is not known by name.
        CheckpointError: no head for segmentation, or one for another encoder.
        ConfigError: a size that cannot be.
    """
    folder, loaded = head_and_model(head, model, "segment", device, dtype, revision, threads)
    segmenter = load_segmenter(folder, loaded)
    if size is not None:
        segmenter.config = replace(segmenter.config, short_side=size)
    return Opened(segmenter, about(folder, loaded), identity_of(segmenter.encoder, folder), read_head(folder).names)


def open_depth(
    head: str | Path | None = None,
    model: str | Path | None = None,
    *,
    size: int | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    revision: str | None = None,
    threads: int | None = None,
) -> Opened[npt.NDArray[np.float32]]:
    """Depth: a picture to metres float32 (H, W); arguments and errors as `open_segmenter`.

    Args:
        size: pixels of the longer side that larger pictures are scaled down to.
    """
    folder, loaded = head_and_model(head, model, "depth", device, dtype, revision, threads)
    estimator = load_depth_estimator(folder, loaded, None if size is None else DepthConfig(long_side=size))
    return Opened(estimator, about(folder, loaded), identity_of(estimator.encoder, folder))


def dense_encoder(model: Perception, layers: Sequence[int] = (-1,), norm: bool = False) -> DenseEncoder:
    """The vision tower of a loaded model, read after some of its blocks.

    Args:
        model: what `midsight.load` gave.
        layers: block indices, 0-based, negative from the end.
        norm: apply the tower's final norm to each map.

    Raises:
        LayerError: a layer that the tower does not have.
    """
    return DenseEncoder(model._ready_tower, model.preprocess, layers, norm, model.name, model._settle)


def load_segmenter(folder: str | Path, model: Perception, config: SegmentConfig | None = None) -> Segmenter:
    """A trained head over a loaded model.

    Args:
        folder: of the head, such as runs/mine/model.
        model: the encoder that it was trained on.
        config: how pictures are looked at; by default windows of the size that it was trained on.

    Raises:
        CheckpointError: no head for segmentation, or one for another encoder.
        LayerError: the head reads a layer that the model does not have.
    """
    encoder = _encoder_of(folder, model)
    head, saved = load_head(folder, encoder, "segmentation")
    usual = SegmentConfig()
    share = usual.windows.stride / usual.windows.crop
    windows = WindowConfig(saved.image_size, max(1, round(share * saved.image_size)))
    return Segmenter(encoder, head, config or replace(usual, short_side=saved.image_size, windows=windows))


def load_depth_estimator(folder: str | Path, model: Perception, config: DepthConfig | None = None) -> DepthEstimator:
    """A trained head over a loaded model; arguments and errors as `load_segmenter`, for depth."""
    encoder = _encoder_of(folder, model)
    head, _ = load_head(folder, encoder, "depth")
    return DepthEstimator(encoder, head, config)


def head_and_model(
    head: str | Path | None,
    model: str | Path | None,
    command: str,
    device: str,
    dtype: Dtype,
    revision: str | None,
    threads: int | None,
) -> tuple[Path, Perception]:
    """The head's folder and its encoder, loaded."""
    folder = shipped(command, "--head with the folder of a trained one") if head is None else Path(head)
    name = read_head(folder).encoder.get("name")  # before the model is loaded: a wrong folder is told at once
    try:
        loaded = load(model or str(name), device, dtype, revision=revision, threads=threads)
    except (CheckpointError, UnknownModelError) as error:
        if model is not None:
            raise
        raise InputError(
            f"{folder}: trained on {name!r}, which cannot be loaded by that name ({error}). "
            "Give the encoder with --model."
        ) from error
    return folder, loaded


def about(folder: Path, model: Perception) -> str:
    """Head and encoder, for people."""
    return f"the head {folder} on {model.name}"


def identity_of(encoder: DenseEncoder, folder: Path) -> str:
    """Names what a head and its encoder compute."""
    return f"{encoder.identity} {content_hash(folder / WEIGHTS)}"


def _encoder_of(folder: str | Path, model: Perception) -> DenseEncoder:
    """The model read where the head wants it."""
    wanted = read_head(folder).encoder
    return dense_encoder(model, [int(layer) for layer in wanted["layers"]], bool(wanted["norm"]))
