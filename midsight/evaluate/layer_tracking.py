"""Layers by tracking: label propagation on DAVIS, each frame through the encoder once for all layers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from midsight.api import Perception, dense_encoder
from midsight.data.davis import DavisSequence, read_davis
from midsight.errors import InputError, MediaError
from midsight.evaluate.layer_features import Report
from midsight.evaluate.layer_types import Measured, SweepConfig
from midsight.evaluate.metrics.jf import VOID, contour_accuracy, region_similarity
from midsight.images import load_image
from midsight.tasks.features import DenseEncoder
from midsight.tasks.tracking import PE, TrackingConfig, propagate_stream
from midsight.tasks.tracking.labels import grid_mask, label_map


def measure_tracking(
    model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report
) -> Measured:
    """J&F of each object of a split of DAVIS; the layers of a frame are propagated side by side, none is kept."""
    sequences = read_davis(data, config.split)
    encoder = dense_encoder(model, config.indices(model))
    protocol = replace(PE, long_side=config.long_side) if config.long_side else PE
    total = sum(len(sequence.frames) for sequence in sequences)
    found, done = list[Tensor](), 0
    for sequence in sequences:

        def told(frames: int, before: int = done) -> None:
            report("tracking", before + frames, total)

        found.append(_objects(encoder, sequence, protocol, told))
        done += len(sequence.frames)
    statistics = torch.cat(found, dim=1)[:, :, None]  # L, objects, 1
    return Measured(statistics.numpy(), "J&F", 0, statistics.shape[1], {}, unit="objects")


def _objects(
    encoder: DenseEncoder, sequence: DavisSequence, protocol: TrackingConfig, told: Callable[[int], None]
) -> Tensor:
    """J&F of each layer and object, float64 (L, objects): means over the frames that count."""
    truth = sequence.truth()
    if len(truth) < 3:
        raise InputError(f"{sequence.name}: the first and the last frame do not count; expected at least 3 frames")
    outer = truth.shape[1], truth.shape[2]
    size = protocol.size(*outer, encoder.patch_size)
    grid = size[0] // encoder.patch_size, size[1] // encoder.patch_size
    mask, names = grid_mask(truth[0], *grid, name=str(sequence.annotations[0]))
    objects = [name for name in names if name not in (0, VOID)]
    maps: list[Tensor] = []  # of the frame at hand, one for each layer

    def layer(number: int) -> Iterator[Tensor]:
        while True:
            yield maps[number]

    streams = [
        propagate_stream(layer(number), mask.to(encoder.device), protocol.propagation)
        for number in range(len(encoder.layers))
    ]
    total = torch.zeros(len(streams), len(objects), dtype=torch.float64)
    for frame, path in enumerate(sequence.frames[:-1]):  # the last one does not count
        maps[:] = [found[0] for found in encoder(_images(encoder, path, outer, size))]
        for number, stream in enumerate(streams):
            soft = next(stream)
            if frame:
                labels = label_map(soft, names, size, outer)
                total[number] += torch.tensor([_figure(labels == k, truth[frame] == k) for k in objects])
        told(frame + 1)
    return total / (len(truth) - 2)


def _figure(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """J&F of one object in one frame."""
    ours, theirs = predicted[None], truth[None]
    return float(region_similarity(ours, theirs)[0] + contour_accuracy(ours, theirs)[0]) / 2


def _images(encoder: DenseEncoder, path: Path, outer: tuple[int, int], size: tuple[int, int]) -> Tensor:
    image = load_image(path)
    if image.shape[:2] != outer:
        raise MediaError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels, the annotations {outer[1]}x{outer[0]}. "
            "Expected one size."
        )
    return encoder.images(image, *size)[None]
