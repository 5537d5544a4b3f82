"""Shares with their intervals, and the baseline beside them: what every figure of the card is made with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.data.packages import fetch
from midsight.data.wordnet import WordNet
from midsight.evaluate.open_moji import Figure
from midsight.train.embedded import trunk, vocabulary
from midsight.train.embedded.sentences import SentenceEncoder
from midsight.transforms.image import ImageTransform

BASELINE_SIZES = (224, 260)  # pixels; 260 is what the trunk was trained on


def figure(metric: str, hits: Tensor, pictures: NDArray[np.int64], chance: float) -> Figure:
    """Crops of one picture are alike, so the interval counts pictures: bootstrap over them.

    Args:
        hits: (N,), whether each is right, or a difference of two such.
        pictures: (N,), what each is of.
    """
    values, rng = hits.double().numpy(), np.random.default_rng(0)
    groups = [values[pictures == number] for number in np.unique(pictures)]
    sums, counts = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    draws = rng.integers(0, len(groups), (2000, len(groups)))
    shares = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = (float(v) for v in np.percentile(shares, (2.5, 97.5)))
    return Figure(metric, float(values.mean()), low, high, chance, len(values))


def hits_among(scores: Tensor, target: Tensor, k: int) -> Tensor:
    """Whether the right label (N,) is among the k best of the scores (N, labels): bool (N,)."""
    return (scores.topk(k, dim=-1).indices == target[:, None]).any(1)


def classifier_answers(sources: Iterable[Any], root: Path, size: int) -> Tensor:
    """Probabilities (N, 1000) that the trunk's own classifier gives pictures at a resolution.

    Args:
        sources: anything that `midsight.images.load_image` takes.
    """
    net, limits = trunk.load_trunk(root), PreprocessConfig(image_size=size)
    transform = ImageTransform(limits)
    with torch.inference_mode():
        pooled = [net.stem(transform(source)[None]).mean((2, 3)) for source in sources]
        return net.logits(torch.cat(pooled)).softmax(-1)


def likeness(labels: list[str], root: Path) -> Tensor:
    """Cosines (1000, labels) of the sentence encoder between ImageNet's names and labels, bare and in a template."""
    encoder = SentenceEncoder(root)
    wordnet = WordNet(fetch("wordnet-base", root) / "usr/share/wordnet")
    names = [[name.lower() for name in wordnet.synsets[s].names] for s in vocabulary.imagenet_synsets()]
    flat = vocabulary.as_shown(encoder, [name for own in names for name in own])
    classes = torch.stack([part.mean(0) for part in flat.split([len(own) for own in names])])
    return torch.nn.functional.normalize(classes, dim=-1) @ vocabulary.as_shown(encoder, labels).T
