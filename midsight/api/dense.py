"""A loaded model as the encoder under a dense task, with heads that were trained on it."""

from collections.abc import Sequence
from dataclasses import replace

from midsight.api.perception import Perception
from midsight.files import StrPath
from midsight.tasks.depth import DepthConfig, DepthEstimator
from midsight.tasks.features import DenseEncoder
from midsight.tasks.saved import load_head, read_head
from midsight.tasks.segmentation import SegmentConfig, Segmenter
from midsight.tasks.windows import WindowConfig


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


def load_segmenter(folder: StrPath, model: Perception, config: SegmentConfig | None = None) -> Segmenter:
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


def load_depth_estimator(folder: StrPath, model: Perception, config: DepthConfig | None = None) -> DepthEstimator:
    """A trained head over a loaded model; arguments and errors as `load_segmenter`, for depth."""
    encoder = _encoder_of(folder, model)
    head, _ = load_head(folder, encoder, "depth")
    return DepthEstimator(encoder, head, config)


def _encoder_of(folder: StrPath, model: Perception) -> DenseEncoder:
    """The model read where the head wants it."""
    wanted = read_head(folder).encoder
    return dense_encoder(model, [int(layer) for layer in wanted["layers"]], bool(wanted["norm"]))
