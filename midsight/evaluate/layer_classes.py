"""Layers by classes: nearest neighbours, a linear probe, an attention probe, retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.api import Perception, dense_encoder
from midsight.errors import InputError
from midsight.evaluate.layer_data import ClassSet, class_set
from midsight.evaluate.layer_features import Kept, Pictures, Report, compute
from midsight.evaluate.layer_fit import Plan, Statistics, groups, measured_probes
from midsight.evaluate.layer_store import StoreLimits, TokenStore
from midsight.evaluate.layer_types import Measured, SweepConfig, features_key
from midsight.evaluate.probes import MLP_RATIO, AttentionProbe, logistic, neighbours, standard, with_one
from midsight.transforms.image import from_config


@dataclass(frozen=True)
class _Read:
    """Features of pictures that could be read."""

    store: TokenStore
    training: list[int]
    measured: list[int]
    labels: Tensor  # int64, of all pictures that were listed
    data: ClassSet

    @property
    def left_out(self) -> dict[str, int]:
        bad = {"unreadable picture": len(self.store.bad)} if self.store.bad else {}
        return self.data.left_out | bad


def measure_knn(model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report) -> Measured:
    """Accuracy of ten nearest neighbours by cosine, on means of patch tokens."""
    read = _read(model, class_set(data, config.share, config.images), "mean", config, folder, report)
    labels = read.labels.to(model.device)
    found = []
    for part in _parts(read, model.device):
        known, queries = (_vectors(read.store, chosen, part, model) for chosen in (read.training, read.measured))
        voted = neighbours(queries, known, labels[read.training], len(read.data.names))
        found.append((voted == labels[read.measured]).cpu())
    return _accuracy(read, torch.cat(found)[:, :, None].double().numpy())


def measure_linear(model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report) -> Measured:
    """Accuracy of a logistic regression on the mean patch token, with the class token where there is one."""
    read = _read(model, class_set(data, config.share, config.images), "mean_and_class", config, folder, report)
    labels, classes = read.labels.to(model.device), len(read.data.names)
    parts, found = _parts(read, model.device), list[Tensor]()
    model._settle()  # threads: the CPUs that are free now
    for number, part in enumerate(parts):

        def told(done: int, of: int, before: int = number) -> None:
            report("probes", before * of + done, len(parts) * of)

        training, measured = (_vectors(read.store, some, part, model) for some in (read.training, read.measured))
        norm = standard(training)
        weights = logistic(norm(training), labels[read.training], classes, told)
        found.append(((with_one(norm(measured)) @ weights).argmax(dim=2) == labels[read.measured]).cpu())
    return _accuracy(read, torch.cat(found)[:, :, None].double().numpy())


def measure_attention(
    model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report
) -> Measured:
    """Accuracy of an attention probe over all tokens, the class token included."""
    read = _read(model, class_set(data, config.share, config.images), "tokens", config, folder, report)
    classes, width, tower = len(read.data.names), model.config.width, model.config
    heads = tower.attn_pooler_heads if width % tower.attn_pooler_heads == 0 else tower.heads
    plan = Plan(
        make=lambda layers: AttentionProbe(layers, width, heads, classes, config.seed),
        apply=lambda probe, x: probe(x),
        loss=lambda logits, pictures: _cross_entropy(logits, read.labels[pictures]),
        score=lambda logits, pictures: _hits(logits, read.labels[pictures]),
        outputs=heads,
        parameters=(3 + 2 * MLP_RATIO) * width**2,
    )
    probe = config.probe(batch_size=32, lr=config.lr, least_steps=200)
    found = measured_probes(read.store, plan, read.training, read.measured, probe, model, report)
    return _accuracy(read, found)


def measure_retrieval(
    model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report
) -> Measured:
    """Recall@1: of pictures with classes, whether the most alike other picture is of the same class; of pairs, whether
    the best text of a picture is its own."""
    found = class_set(data, config.share, config.images, classes=False)
    if found.classes:
        read = _read(model, found, "mean", config, folder, report)
        hits = _same_class(read, model)
        return Measured(hits, "recall@1", 0, hits.shape[1], read.left_out)
    if not model.has_text:
        raise InputError(
            f"{data}: holds pictures with captions, but {model.name} has no text tower to find them by. Take a PE-Core "
            "model, or pictures in one folder for each class."
        )
    read = _read(model, found, "embedding", config, folder, report)
    texts = torch.from_numpy(model.embed_texts(found.names)).to(model.device)
    pictures = read.store.good
    wanted = read.labels[pictures].to(model.device)
    right = list[Tensor]()
    for part in _parts(read, model.device):
        queries = F.normalize(_vectors(read.store, pictures, part, model), dim=-1)  # l, N, D
        right.append(((queries @ texts.T).argmax(dim=2) == wanted).cpu())
    return Measured(
        torch.cat(right)[:, :, None].double().numpy(), "recall@1", 0, len(pictures), read.left_out, pairs=True
    )


def _same_class(read: _Read, model: Perception) -> Statistics:
    """Hits of all pictures whose class has another one, (L, N, 1)."""
    pictures = read.store.good
    labels = read.labels[pictures].to(model.device)
    counts = torch.bincount(labels, minlength=len(read.data.names))
    asked = counts[labels] > 1
    if not bool(asked.any()):
        raise InputError("no class has two pictures that can be read, so there is nothing to find")
    hits = []
    for part in _parts(read, model.device):
        x = _vectors(read.store, pictures, part, model)
        nearest = neighbours(x, x, labels, len(counts), k=1, itself=True)
        hits.append((nearest == labels)[:, asked].cpu())
    return torch.cat(hits)[:, :, None].double().numpy()


def _read(
    model: Perception, data: ClassSet, keep: Kept, config: SweepConfig, folder: Path | None, report: Report
) -> _Read:
    transform = from_config(model.preprocess)

    def read(number: int) -> tuple[Tensor, npt.NDArray[Any] | None]:
        return transform.pixels(data.samples[number].media), None

    encoder = dense_encoder(model, config.indices(model))
    head = model.identity if keep == "embedding" else ""  # features of blocks do not depend on it
    key = features_key(model, encoder, data.key, keep, head)
    limits: StoreLimits = config.limits
    pictures = Pictures(len(data.samples), key, read)
    size = model.preprocess.image_size
    store = compute(encoder, pictures, size, keep, limits, folder, config.batch_size or 8, report)
    training = [number for number in store.good if number < data.training]
    measured = [number for number in store.good if number >= data.training]
    labels = torch.tensor(data.labels)
    if data.classes and (len(set(labels[training].tolist())) < 2 or not measured):
        raise InputError(
            f"{len(training)} pictures can be read to train on and {len(measured)} to measure; expected pictures of at "
            f"least two classes, and some to measure. What cannot be read: {next(iter(store.bad.values()), 'none')}"
        )
    return _Read(store, training, measured, labels, data)


def _parts(read: _Read, device: torch.device) -> Sequence[slice]:
    shape = read.store.shape
    return list(groups(shape.layers, 16 * shape.pictures * shape.tokens * shape.width, device))


def _vectors(store: TokenStore, pictures: list[int], part: slice, model: Perception) -> Tensor:
    """The tokens of each picture as one vector, (l, N, T W)."""
    return store.tokens(pictures, part).flatten(2).to(model.device)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over pictures: logits (l, B, K) and labels (B,) to (l,)."""
    chosen = labels.to(logits.device).expand(logits.shape[:2])[:, :, None]
    return -logits.log_softmax(dim=2).gather(2, chosen).mean(dim=(1, 2))


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """(l, B, K) and (B,) to (l, B, 1)."""
    return (logits.argmax(dim=2) == labels.to(logits.device))[:, :, None]


def _accuracy(read: _Read, hits: Statistics) -> Measured:
    return Measured(np.asarray(hits), "accuracy", len(read.training), len(read.measured), read.left_out)
