"""A loaded model as the encoder under a dense task, with heads that were trained on it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from midsight.api.loading import load
from midsight.api.perception import Perception
from midsight.errors import InputError
from midsight.files import StrPath
from midsight.tasks.depth import DepthConfig, DepthEstimator
from midsight.tasks.features import DenseEncoder
from midsight.tasks.saved import load_head, read_head
from midsight.tasks.segmentation import (
    BACKGROUND,
    OpenConfig,
    OpenSegmenter,
    SegmentConfig,
    Segmenter,
    stuff_of,
    usual_config,
)
from midsight.tasks.windows import WindowConfig
from midsight.tasks.zero_shot import check_labels

THINGS = Path(__file__).parents[1] / "assets" / "embedded_spatial" / "heads" / "open_vocabulary"
_SPATIAL = {"embedded": "embedded-spatial"}  # which shipped encoder helps which shipped model


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


def open_vocabulary(
    labels: Sequence[str],
    model: Perception | None = None,
    spatial: Perception | None = None,
    config: OpenConfig | None = None,
    *,
    background: bool | Sequence[str] = False,
) -> OpenSegmenter:
    """A segmenter for names alone, without training.

    Args:
        labels: names to choose from, each once.
        model: a PE-Core; None is the embedded one.
        spatial: an encoder of better locality, whose tokens say which of the model's belong together. None takes
            "embedded-spatial" for the embedded model, and no other encoder for others.
        config: how pictures are looked at; None is `tasks.segmentation.usual_config`.
        background: True where a pixel may be none of the labels, or words for what it may be then.

    With "embedded-spatial", a trained head parts things from surroundings where the background is asked for (without
    words of one's own) or where labels such as "sky" or "grass" name surroundings (`tasks.segmentation.stuff_of`).

    Raises:
        InputError: labels or words that cannot be, words that are labels too, one label without a background, or a
            model without texts.
        CheckpointError: the head of "embedded-spatial" is for other weights.
    """
    names = check_labels(labels)
    model = load() if model is None else model
    if spatial is None and model.name in _SPATIAL:
        spatial = load(_SPATIAL[model.name], device=model.device)
    encoder = dense_encoder(model)
    config = config or usual_config(encoder)
    stuff = stuff_of(names)
    asked = background is True or (background is False and bool(stuff))
    head = things_head(spatial) if spatial is not None and asked else None
    words: Tensor | None = None
    if background is not False and (head is None or stuff):  # a head alone knows where the background is
        words = _texts(_words(names, config, background), model, config)
    return OpenSegmenter(
        encoder, names, _texts(names, model, config), background=background is not False, words=words, stuff=stuff,
        head=head, spatial=None if spatial is None else dense_encoder(spatial),
        scale=float(model._pair().logit_scale.detach().float().exp()), config=config,
    )  # fmt: skip


def things_head(spatial: Perception) -> nn.Module | None:
    """The head that tells things from surroundings by the tokens of "embedded-spatial"; None for other encoders.

    Raises:
        CheckpointError: it is for other weights than these.
    """
    if spatial.name != "embedded-spatial":
        return None
    return load_head(THINGS, dense_encoder(spatial), "segmentation")[0]


def _words(names: list[str], config: OpenConfig, background: bool | Sequence[str]) -> list[str]:
    if isinstance(background, bool):
        return [word for word in config.surroundings if word not in names] or [BACKGROUND]
    words = check_labels(background)
    if both := [word for word in words if word in names]:
        raise InputError(f"{both[0]!r} is a label and a word for the background; leave it out of one of them")
    return words


def _texts(names: list[str], model: Perception, config: OpenConfig) -> Tensor:
    return torch.from_numpy(model.embed_texts(names, config.templates))


def _encoder_of(folder: StrPath, model: Perception) -> DenseEncoder:
    """The model read where the head wants it."""
    wanted = read_head(folder).encoder
    return dense_encoder(model, [int(layer) for layer in wanted["layers"]], bool(wanted["norm"]))
