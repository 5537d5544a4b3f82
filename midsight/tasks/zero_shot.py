"""Zero-shot classification: names become a classifier, and the classifier's logits become ranked predictions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError
from midsight.tasks.templates import get_templates, resolve_templates

__all__ = ["Prediction", "build_classifier", "check_labels", "get_templates", "rank", "resolve_templates"]

_PROMPTS_AT_ONCE = 1024  # bounds the memory of a large vocabulary with 80 templates
_NAMES_ENOUGH = 16  # names of which each template's prompts are encoded by themselves


@dataclass(frozen=True)
class Prediction:
    """One label and its probability among the labels that were asked about."""

    label: str
    score: float


def check_labels(labels: Sequence[str]) -> list[str]:
    """The labels without outer spaces.

    Raises:
        InputError: no labels, one that is empty or not a text, or one that comes twice.
    """
    if isinstance(labels, str):
        raise InputError(f"labels must be a list of texts, got the single text {labels!r}")
    names = []
    for position, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"label {position + 1} is {label!r}; every label must be a text that is not empty")
        names.append(label.strip())
    if not names:
        raise InputError("there are no labels; give at least one name to choose from")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(f"these labels come more than once: {', '.join(map(repr, repeated))}; give each label once")
    return names


def build_classifier(
    text_encode: Callable[[list[str]], Tensor], classnames: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """Class embeddings as the columns of a matrix.

    Each template is filled with the name ("{c}", any number of times); each text feature is normalised, they are
    averaged over the templates, and the mean is normalised again. Logits are then
    100 * normalised image features @ classifier.

    Args:
        text_encode: texts to features (n, D), of any length.
        classnames: one name a class.
        templates: texts with "{c}".

    Returns:
        float32 (D, classes), unit columns.

    Raises:
        InputError: no class names, or a template without "{c}".
        ShapeError: text_encode did not return one row a text.

    Source: PE paper, B.1.2.
    """
    names, prompts = list(classnames), resolve_templates(list(templates))
    if not names:
        raise InputError("there are no class names to build a classifier from")
    columns = [_columns(text_encode, group, prompts) for group in _groups(names, _PROMPTS_AT_ONCE)]
    return torch.cat(columns).T.contiguous()


def _columns(text_encode: Callable[[list[str]], Tensor], names: list[str], prompts: list[str]) -> Tensor:
    """Class embeddings (names, D). One template's prompts go together: an encoder may share what they begin with."""
    at_once = 1 if len(names) >= _NAMES_ENOUGH else _PROMPTS_AT_ONCE // len(names)
    total = torch.zeros(())
    for some in _groups(prompts, at_once):
        texts = [prompt.replace("{c}", name) for prompt in some for name in names]
        features = text_encode(texts)
        if features.ndim != 2 or len(features) != len(texts):
            raise ShapeError(f"text_encode returned {tuple(features.shape)} for {len(texts)} texts; expected (n, D)")
        total = total + F.normalize(features.float(), dim=-1).reshape(len(some), len(names), -1).sum(dim=0)
    return F.normalize(total / len(prompts), dim=-1)


def rank(logits: Tensor, labels: Sequence[str], top_k: int | None = None) -> list[Prediction]:
    """Labels with their softmax probability, best first.

    Args:
        logits: float (classes,), already scaled.
        labels: as many names.
        top_k: how many to keep; None keeps all. The probabilities are over all labels either way.

    Raises:
        ShapeError: logits and labels do not fit.
        InputError: top_k below 1.
    """
    if logits.shape != (len(labels),):
        raise ShapeError(f"logits are {tuple(logits.shape)}; expected ({len(labels)},), one for each label")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}")
    count = len(labels) if top_k is None else min(top_k, len(labels))
    scores, order = logits.double().softmax(dim=0).sort(descending=True, stable=True)
    pairs = zip(scores[:count].tolist(), order[:count].tolist(), strict=True)
    return [Prediction(labels[index], score) for score, index in pairs]


def _groups(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
