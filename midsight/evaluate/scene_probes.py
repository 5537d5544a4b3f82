"""Four dense questions to frozen feature maps, asked on rendered scenes, whose answers are exact.

Segmentation (mIoU of a linear probe over kinds of objects), depth (RMSE of a linear probe), tracking (J&F of label
propagation) and correspondence (PCK of nearest neighbours). Every figure keeps what each scene adds to it, so that
intervals come from drawing scenes again.

Chosen here, since scenes are no published benchmark: the probes are batch-normalised and linear, their maps are
enlarged bilinearly, and what lies farther than 10 m is not asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.data.datasets import open_dataset
from midsight.data.loader import decode_clip, decode_image
from midsight.data.scenes.write import read_labels
from midsight.data.stream import Order
from midsight.errors import InputError
from midsight.evaluate.metrics.jf import object_figures
from midsight.files import StrPath
from midsight.images import Pixels
from midsight.tasks.tracking import propagate
from midsight.tasks.tracking.labels import grid_mask, label_map

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProbeConfig:
    """How the questions are asked."""

    side: int = 56  # pixels of the label maps that probes are trained on and measured at
    farthest: float = 10.0  # metres
    epochs: int = 12
    batch: int = 16  # scenes
    lr: float = 1e-3
    weight_decay: float = 1e-4
    ridge: float = 1e-2  # of the depth probe, times the number of tokens
    reach: float = 0.1  # of the picture's side: a match this close is right


@dataclass(frozen=True)
class ScenePicture:
    """One picture with its answers."""

    pixels: Pixels  # uint8 (S, S, 3)
    classes: Tensor  # int64 (side, side): 0 for the surroundings, then the kinds in the order of `kinds`
    depth: Tensor  # float32 (side, side), metres; 0 for the sky


@dataclass(frozen=True)
class NamedScene:
    """One picture with the names of what is in it, at full size."""

    pixels: Pixels  # uint8 (S, S, 3)
    ids: npt.NDArray[np.uint8]  # (S, S): 0 for the surroundings
    names: Mapping[int, str]  # of the objects, by their ids


@dataclass(frozen=True)
class SceneVideo:
    """One clip with its answers."""

    frames: Pixels  # uint8 (T, S, S, 3)
    ids: npt.NDArray[np.uint8]  # (T, S, S)
    points: npt.NDArray[np.float32]  # (T, P, 2): pixels, x then y
    visible: npt.NDArray[np.bool_]  # (T, P)


@dataclass(frozen=True)
class Answer:
    """A figure, and how it comes about: `combine` makes it of the rows of any draw of scenes."""

    rows: Figures  # (scenes, ...)
    combine: Callable[[Figures], float]

    @property
    def value(self) -> float:
        return self.combine(self.rows)

    def draws(self, times: int, seed: int) -> Figures:
        """The figure of `times` draws of scenes with replacement, the same draws for the same number of scenes."""
        dice, count = np.random.default_rng(seed), len(self.rows)
        return np.array([self.combine(self.rows[dice.integers(count, size=count)]) for _ in range(times)])


def kinds(path: StrPath) -> tuple[str, ...]:
    """The kinds of objects of a set of scenes, sorted."""
    found = {o["category"] for sample in _samples(path) for o in sample.facts["objects"]}
    return tuple(sorted(found))


def read_pictures(path: StrPath, names: Sequence[str], config: ProbeConfig) -> list[ScenePicture]:
    """All pictures of shards of the scene engine; kinds that are not in `names` are left out of the labels (-1).

    Raises:
        InputError: no such scenes.
    """
    found = []
    for sample in _samples(path):
        arrays = read_labels(sample.labels)
        table = torch.full((256,), -1)
        table[0] = 0
        for one in sample.facts["objects"]:
            table[one["id"]] = names.index(one["category"]) + 1 if one["category"] in names else -1
        classes = table[_thinned(arrays["ids"], config.side).long()]
        found.append(ScenePicture(decode_image(sample), classes, _thinned(arrays["depth"], config.side)))
    return found


def read_scenes(path: StrPath) -> Iterator[NamedScene]:
    """All pictures of shards of the scene engine, one by one.

    Raises:
        InputError: no such scenes.
    """
    for sample in _samples(path):
        names = {int(one["id"]): str(one["name"]) for one in sample.facts["objects"]}
        yield NamedScene(decode_image(sample), read_labels(sample.labels)["ids"], names)


def read_videos(path: StrPath) -> Iterator[SceneVideo]:
    """All clips of shards of the scene engine.

    Raises:
        InputError: no such scenes.
    """
    for sample in _samples(path):
        arrays = read_labels(sample.labels)
        frames = decode_clip(sample, len(arrays["ids"]))
        yield SceneVideo(frames, arrays["ids"], arrays["tracks"], arrays["tracks_visible"])


def segmentation(
    train: Tensor, wanted: Sequence[ScenePicture], test: Tensor, truth: Sequence[ScenePicture], classes: int,
    config: ProbeConfig, seed: int = 0,
) -> Answer:  # fmt: skip
    """mIoU of a batch-normalised linear probe.

    Args:
        train, test: maps (N, C, h, w) of the pictures `wanted` and `truth`.
        classes: with the surroundings.
    """
    torch.manual_seed(seed)
    mean, std = _moments(train)
    head = torch.nn.Conv2d(train.shape[1], classes, 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    labels = torch.stack([picture.classes for picture in wanted])
    steps = config.epochs * -(-len(train) // config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(config.epochs):
        for rows in torch.randperm(len(train)).split(config.batch):
            logits = _enlarged(head((train[rows] - mean) / std), config.side)
            loss = F.cross_entropy(logits, labels[rows], ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        found = [_enlarged(head((one[None] - mean) / std), config.side).argmax(1)[0] for one in test]
    rows = np.stack([_confusion(f, picture.classes, classes) for f, picture in zip(found, truth, strict=True)])
    return Answer(rows, mean_iou)


def depth(
    train: Tensor, wanted: Sequence[ScenePicture], test: Tensor, truth: Sequence[ScenePicture], config: ProbeConfig
) -> Answer:
    """RMSE in metres of a linear probe of the logarithm of depth, fitted in closed form."""
    mean, std = _moments(train)
    side = train.shape[-1]
    targets = torch.stack([_token_depth(picture.depth, side, config) for picture in wanted]).flatten()
    rows = ((train - mean) / std).permute(0, 2, 3, 1).flatten(0, 2).double()  # tokens, C
    known = targets > 0
    x = torch.cat([rows[known], torch.ones(int(known.sum()), 1, dtype=torch.float64)], dim=1)
    y = targets[known].double().log()
    penalty = config.ridge * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 0.0
    weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y).float()
    found = torch.einsum("nchw,c->nhw", (test - mean) / std, weight[:-1]) + weight[-1]
    maps = _enlarged(found[:, None], config.side)[:, 0].exp()
    errors = []
    for one, picture in zip(maps, truth, strict=True):
        near = (picture.depth > 0) & (picture.depth <= config.farthest)
        errors.append([float((one - picture.depth)[near].square().sum()), float(near.sum())])
    return Answer(np.array(errors), lambda r: float(np.sqrt(r[:, 0].sum() / max(r[:, 1].sum(), 1.0))))


def tracking(maps: Sequence[Tensor], videos: Sequence[SceneVideo]) -> Answer:
    """J&F in percent of label propagation with DINO's settings, the mean over all objects; maps (T, C, h, w)."""
    rows = []
    for features, video in zip(maps, videos, strict=True):
        size = (video.ids.shape[1], video.ids.shape[2])
        mask, names = grid_mask(video.ids[0], features.shape[2], features.shape[3])
        found = np.stack([label_map(one, names, size, size) for one in propagate(features, mask)])
        figures = object_figures(found, video.ids).values()
        rows.append([50 * sum(j + f for j, f in figures), len(figures)])
    return Answer(np.array(rows), lambda r: float(r[:, 0].sum() / r[:, 1].sum()))


def correspondence(maps: Sequence[Tensor], videos: Sequence[SceneVideo], config: ProbeConfig) -> Answer:
    """PCK in percent: points of the first frame, found again in the last one by the most alike place of its map."""
    rows = []
    for features, video in zip(maps, videos, strict=True):
        side = video.frames.shape[1]
        first, last = (_unit(features[k]) for k in (0, -1))
        last = _unit(_enlarged(last[None], config.side)[0])
        seen = torch.from_numpy(video.visible[0] & video.visible[-1])
        start, end = (torch.from_numpy(video.points[k])[seen] for k in (0, -1))
        asked = F.grid_sample(first[None], (start / side * 2 - 1)[None, None], align_corners=False)[0, :, 0]  # C, P
        best = (asked.T @ last.flatten(1)).argmax(1)
        at = (torch.stack([best % config.side, best // config.side], dim=1) + 0.5) * (side / config.side)
        right = (at - end).norm(dim=1) <= config.reach * side
        rows.append([float(right.sum()), float(len(right))])
    return Answer(np.array(rows), lambda r: 100 * float(r[:, 0].sum() / max(r[:, 1].sum(), 1.0)))


def mean_iou(confusion: Figures) -> float:
    """Of confusion matrices (scenes, K, K), truth by rows, summed: the mean over classes that occur, in percent."""
    table = confusion.sum(0)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    there = table.sum(1) > 0
    return 100 * float((np.diag(table)[there] / union[there]).mean())


def interval(answer: Answer, times: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of draws of scenes."""
    low, high = np.percentile(answer.draws(times, seed), (2.5, 97.5))
    return float(low), float(high)


def difference(a: Answer, b: Answer, times: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """a minus b on the same draws of scenes: the value and the middle 95 %."""
    low, high = np.percentile(a.draws(times, seed) - b.draws(times, seed), (2.5, 97.5))
    return a.value - b.value, float(low), float(high)


def _samples(path: StrPath) -> Iterator[Any]:
    order = Order(shuffle=False)
    for sample in open_dataset(path, needs_captions=False, labels=True).samples(order, epochs=1, workers=1):
        if sample.labels is None:
            raise InputError(f"{sample.key}: has no labels; expected shards of the scene engine (midsight data build)")
        yield sample


def _thinned(array: npt.NDArray[Any], side: int) -> Tensor:
    """Values at the centres of side x side cells."""
    at = ((np.arange(side) + 0.5) * len(array) / side).astype(int)
    return torch.from_numpy(np.ascontiguousarray(array[np.ix_(at, at)]))


def _token_depth(depth: Tensor, side: int, config: ProbeConfig) -> Tensor:
    """Mean depth of what is near enough in each token, 0 where nothing is, (side, side)."""
    near = ((depth > 0) & (depth <= config.farthest)).float()
    share = F.adaptive_avg_pool2d(near[None], side)[0]
    return torch.where(share > 0, F.adaptive_avg_pool2d((depth * near)[None], side)[0] / share.clamp(min=1e-6), 0.0)


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each channel, (C, 1, 1)."""
    mean = maps.mean((0, 2, 3))
    return mean[:, None, None], maps.std((0, 2, 3)).clamp(min=1e-6)[:, None, None]


def _enlarged(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)


def _unit(maps: Tensor) -> Tensor:
    return F.normalize(maps, dim=0)


def _confusion(found: Tensor, truth: Tensor, classes: int) -> Figures:
    known = truth >= 0
    pairs = truth[known] * classes + found[known]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).double().numpy()
