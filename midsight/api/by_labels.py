"""Segmentation by names alone: a loaded PE-Core, helped by a PE-Spatial."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from midsight.api.dense import dense_encoder
from midsight.api.loading import Dtype, load
from midsight.api.opened import SHIPPED, Opened
from midsight.api.perception import Perception
from midsight.errors import InputError
from midsight.tasks.saved import load_head
from midsight.tasks.segmentation import BACKGROUND, OpenConfig, OpenSegmenter, stuff_of, usual_config
from midsight.tasks.zero_shot import check_labels

THINGS = SHIPPED / "open_vocabulary"
_SPATIAL = {"embedded": "embedded-spatial"}  # which shipped encoder helps which shipped model


def open_labels(
    labels: Sequence[str],
    model: str | Path | None = None,
    *,
    background: bool | Sequence[str] = False,
    device: str = "auto",
    dtype: Dtype = "auto",
    revision: str | None = None,
    threads: int | None = None,
) -> Opened[npt.NDArray[np.uint16]]:
    """Segmentation by names as a job calls it: a picture to places in `names`, uint16 (H, W).

    Args:
        model: a PE-Core, whatever `midsight.load` takes; None is the embedded one.
        device, dtype, revision, threads: as `midsight.load`.

    Raises:
        As `open_vocabulary`.
    """
    loaded = load(model, device, dtype, revision=revision, threads=threads)
    segmenter = open_vocabulary(labels, loaded, background=background)
    asked = hashlib.sha256(repr((segmenter.names, background)).encode()).hexdigest()
    return Opened(segmenter, f"{loaded.name} by names", f"{loaded.identity} {asked}", segmenter.names)


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
        scale=model.logit_scale, config=config,
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
