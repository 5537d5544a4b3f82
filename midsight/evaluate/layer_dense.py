"""Layers by dense tasks: segmentation and depth, by a linear probe on each token.

Pictures are squashed to the encoder's square. Probes learn at the grid of the tokens: a token's target is the share of
each class among its pixels (so its loss is the mean over pixels of the nearest token's), or the mean of its known
depths. Scores are taken at every pixel of the square, with the probe's output enlarged bilinearly. The figures compare
layers; published ones come from longer training and from whole pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.api import Perception, dense_encoder
from midsight.data.depth import DepthFiles
from midsight.data.segmentation import IGNORE, LabelConfig
from midsight.errors import InputError
from midsight.evaluate.layer_data import DensePictures, depth_pictures, segmentation_pictures
from midsight.evaluate.layer_features import Pictures, Report, compute
from midsight.evaluate.layer_fit import Plan, measured_probes
from midsight.evaluate.layer_store import TokenStore
from midsight.evaluate.layer_types import Measured, SweepConfig, features_key
from midsight.evaluate.metrics.bootstrap import Floats
from midsight.evaluate.probes import LinearProbe, ProbeConfig
from midsight.images.labels import nearest
from midsight.tasks.depth import DepthRange
from midsight.tasks.depth.losses import EPS, MEAN_SHARE
from midsight.tasks.windows import enlarge

_FLOOR = 0.1  # of each bin, as in `midsight.tasks.depth.head`
LR_WIDTH = 768  # channels of the encoder for which the rate of the settings holds
_AT_ONCE = 1 << 28  # bytes of enlarged outputs


def measure_segmentation(
    model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report
) -> Measured:
    """mIoU of a linear probe."""
    meaning = LabelConfig(IGNORE, zero_is_void=config.zero_is_void)
    found = segmentation_pictures(data, config.share, meaning)
    store = _read(model, found, "uint8", config, folder, report)
    training, measured, left_out = _both(store, found, lambda target: target != IGNORE, "a label")
    classes = 1 + max(_highest(store, number) for number in store.good)
    if classes < 2:
        raise InputError(f"{data}: all masks hold the label 0 alone; expected at least two classes")
    side = model.preprocess.image_size // model.config.patch_size

    def loss(logits: Tensor, pictures: list[int]) -> Tensor:
        return shared_cross_entropy(logits, class_shares(store.targets(pictures).to(logits.device), side, classes))

    def score(logits: Tensor, pictures: list[int]) -> Tensor:
        return _per_picture(logits, store.targets(pictures), lambda x, y: class_counts(x.argmax(dim=1), y, classes))

    plan = _plan(model, config, classes, _as_it_is, loss, score)
    statistics = measured_probes(store, plan, training, measured, _training(config, model), model, report)
    return Measured(statistics, "mIoU", len(training), len(measured), left_out, mean_iou)


def measure_depth(model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report) -> Measured:
    """RMSE in metres of a linear probe over bins of depth."""
    found = depth_pictures(data, config.share, DepthFiles(config.depth_scale, config.farthest))
    store = _read(model, found, "float32", config, folder, report)
    training, measured, left_out = _both(store, found, lambda target: target > 0, "a depth")
    depths = DepthRange(farthest=config.farthest)
    centres = torch.linspace(depths.nearest, depths.farthest, depths.bins)
    side = model.preprocess.image_size // model.config.patch_size

    def loss(metres: Tensor, pictures: list[int]) -> Tensor:
        return log_losses(metres.squeeze(3), cell_depths(store.targets(pictures).to(metres.device), side))

    def score(metres: Tensor, pictures: list[int]) -> Tensor:
        return _per_picture(metres, store.targets(pictures), root_mean_squares)

    plan = _plan(model, config, depths.bins, lambda outputs: metres_of(outputs, centres)[..., None], loss, score)
    statistics = measured_probes(store, plan, training, measured, _training(config, model), model, report)
    return Measured(statistics, "RMSE", len(training), len(measured), left_out, higher=False)


def _plan(
    model: Perception,
    config: SweepConfig,
    outputs: int,
    read_out: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, list[int]], Tensor],
    score: Callable[[Tensor, list[int]], Tensor],
) -> Plan:
    width = model.config.width

    def apply(probe: nn.Module, x: Tensor) -> Tensor:
        return read_out(probe(x.flatten(1, 2)).unflatten(1, x.shape[1:3]))  # l, B, T, K

    return Plan(
        lambda layers: LinearProbe(layers, width, outputs, config.seed), apply, loss, score, outputs, outputs * width
    )


def _training(config: SweepConfig, model: Perception) -> ProbeConfig:
    """A step of AdamW moves an output by about rate x width: narrow encoders get a higher rate, wide ones a lower."""
    return config.probe(batch_size=16, lr=config.lr * LR_WIDTH / model.config.width, least_steps=500)


def _as_it_is(outputs: Tensor) -> Tensor:
    return outputs


def _read(
    model: Perception, found: DensePictures, dtype: str, config: SweepConfig, folder: Path | None, report: Report
) -> TokenStore:
    encoder, size = dense_encoder(model, config.indices(model)), model.preprocess.image_size

    def read(number: int) -> tuple[Tensor, npt.NDArray[Any] | None]:
        data, index = found.parts[number]
        image, target = data.read(index)
        return encoder.pixels(image, size, size), nearest(target, size, size)

    key = features_key(model, encoder, found.key, "patches")
    pictures = Pictures(len(found.parts), key, read, dtype)
    return compute(encoder, pictures, size, "patches", config.limits, folder, config.batch_size or 8, report)


def _both(
    store: TokenStore, found: DensePictures, known: Callable[[Tensor], Tensor], what: str
) -> tuple[list[int], list[int], dict[str, int]]:
    """Training and measured pictures that have a known pixel, and how many others there are, by reason."""
    good = [number for number in store.good if bool(known(store.targets([number])).any())]
    training = [number for number in good if number < found.training]
    measured = [number for number in good if number >= found.training]
    if not training or not measured:
        raise InputError(
            f"{len(training)} pictures with {what} to train on and {len(measured)} to measure; expected at least one "
            f"of each. What cannot be read: {next(iter(store.bad.values()), 'none')}"
        )
    reasons = {"unreadable picture": len(store.bad), f"picture without {what}": len(store.good) - len(good)}
    return training, measured, {reason: count for reason, count in reasons.items() if count}


def _highest(store: TokenStore, number: int) -> int:
    target = store.targets([number])
    counted = target[target != IGNORE]
    return int(counted.max()) if counted.numel() else 0


def _per_picture(outputs: Tensor, targets: Tensor, figures: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Figures at every pixel, some pictures and layers at a time.

    Args:
        outputs: float (l, B, T, K).
        targets: (B, S, S).
        figures: of enlarged outputs (n, K, S, S) and targets (n, S, S), statistics (n, F).

    Returns:
        (l, B, F).
    """
    layers, batch, tokens, channels = outputs.shape
    side, size = round(tokens**0.5), targets.shape[1]
    maps = outputs.flatten(0, 1).mT.unflatten(2, (side, side))  # l B, K, side, side
    truth = targets.to(outputs.device)
    at_once = max(1, _AT_ONCE // (4 * channels * size**2))
    found = []
    for first in range(0, len(maps), at_once):
        rows = torch.arange(first, min(first + at_once, len(maps)), device=truth.device) % batch
        found.append(figures(enlarge(maps[first : first + at_once], (size, size)), truth[rows]))
    return torch.cat(found).unflatten(0, (layers, batch))


# Segmentation


def class_shares(labels: Tensor, side: int, classes: int) -> Tensor:
    """Labels uint8 (B, S, S) to the share of each class among the pixels of each of side x side cells, (B, T, K)."""
    cells = _cells(labels, side).long()  # B, T, pixels
    cells = torch.where(cells == IGNORE, classes, cells)
    counts = torch.zeros(*cells.shape[:2], classes + 1, device=labels.device)
    counts.scatter_add_(2, cells, torch.ones_like(cells, dtype=torch.float32))
    return counts[:, :, :classes] / cells.shape[2]


def shared_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Logits (l, B, T, K) and shares (B, T, K): the mean over all pixels that count, (l,)."""
    total = -(logits.log_softmax(dim=3) * shares).sum(dim=(1, 2, 3))
    return total / shares.sum().clamp_min(1e-6)


def class_counts(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Pixels of each class: right ones, predicted ones, true ones.

    Args:
        predicted: integer (n, S, S).
        truth: integer (n, S, S); 255 does not count.

    Returns:
        float64 (n, 3 K).
    """
    rows = torch.arange(len(truth), device=truth.device).view(-1, 1, 1).expand_as(truth)
    counted = truth != IGNORE
    p, t, r = predicted[counted], truth[counted].long(), rows[counted]
    right = p == t

    def count(values: Tensor, of: Tensor) -> Tensor:
        return torch.bincount(of * classes + values, minlength=len(truth) * classes).view(-1, classes)

    return torch.cat((count(t[right], r[right]), count(p, r), count(t, r)), dim=1).double()


def mean_iou(counts: Floats) -> Floats:
    """Counts (..., 3 K) to mIoU (...), over the classes that are there or predicted."""
    right, predicted, true = np.split(counts, 3, axis=-1)
    union = predicted + true - right
    there = union > 0
    shares = np.where(there, right / np.where(there, union, 1), 0)
    found: Floats = shares.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    return found


# Depth


def metres_of(outputs: Tensor, centres: Tensor) -> Tensor:
    """(..., bins) to metres (...): outputs cut at zero weigh the bins, as in `midsight.tasks.depth.DepthHead`."""
    weights = F.relu(outputs) + _FLOOR
    return weights @ centres.to(weights) / weights.sum(dim=-1)


def cell_depths(metres: Tensor, side: int) -> Tensor:
    """Depth (B, S, S) to the mean of what is known in each of side x side cells, (B, T); 0 where nothing is."""
    cells = _cells(metres, side)
    return cells.sum(dim=2) / (cells > 0).sum(dim=2).clamp_min(1)


def log_losses(predicted: Tensor, truth: Tensor) -> Tensor:
    """The scale-invariant log loss of each layer: metres (l, B, T) and truth (B, T), 0 where unknown, to (l,)."""
    known = truth > 0
    count = known.sum()
    if int(count) < 2:
        return predicted.sum(dim=(1, 2)) * 0
    ratio = torch.log(predicted[:, known] + EPS) - torch.log(truth[known] + EPS)  # l, n
    return torch.sqrt(ratio.var(dim=1) + MEAN_SHARE * ratio.mean(dim=1).square() + 1e-12)


def root_mean_squares(predicted: Tensor, truth: Tensor) -> Tensor:
    """RMSE over the known pixels: metres (n, 1, S, S) and truth (n, S, S) to (n, 1)."""
    known = truth > 0
    squares = ((predicted[:, 0] - truth).square() * known).sum(dim=(1, 2))
    return (squares / known.sum(dim=(1, 2)).clamp_min(1)).sqrt()[:, None]


def _cells(values: Tensor, side: int) -> Tensor:
    """(B, S, S) to (B, T, pixels), cells in raster order."""
    batch, size = values.shape[:2]
    pixels = size // side
    return values.view(batch, side, pixels, side, pixels).transpose(2, 3).reshape(batch, side**2, pixels**2)
