"""How good a pair is on some samples: zero-shot over names of classes, or retrieval among pairs, with every answer.

Answers are kept one by one, so that two sets of weights can be compared on the same samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pe
from midsight.data.datasets import Dataset
from midsight.data.loader import Prepare
from midsight.data.stream import Order
from midsight.evaluate.metrics import classification, interval, retrieval
from midsight.tasks.zero_shot import build_classifier, resolve_templates
from midsight.train.config import TrainConfig, preprocess_of, towers
from midsight.train.losses import contrastive, group_ids
from midsight.train.pair import autocast
from midsight.transforms import get_text_tokenizer
from midsight.transforms.augment import TrainTransform

_ROWS = 64  # pictures, frames or texts that are encoded at once


@dataclass(frozen=True)
class Measured:
    """Figures of one set of weights."""

    figures: dict[str, float]  # shares: top1, top5 (five classes or more); or recalls of both directions
    intervals: dict[str, tuple[float, float]]  # 95 %, of each figure
    loss: float  # cross-entropy of the right class or pair
    samples: int
    left_out: dict[str, int]  # what could not be read, by reason
    right: tuple[bool, ...]  # of each question: whether a sample's class came first; a sample's text, a text's sample
    classes: dict[str, tuple[int, int]]  # name -> right, of

    @property
    def score(self) -> float:
        """The one figure by which weights are chosen: top-1, or the mean of both directions' recall at 1."""
        return self.figures.get("top1", sum(v for k, v in self.figures.items() if k.endswith("recall@1")) / 2)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"figures": self.figures, "intervals": self.intervals, "loss": self.loss, "samples": self.samples,
                "left_out": self.left_out, "classes": self.classes}  # fmt: skip


class Ruler:
    """Measures models on one data set."""

    def __init__(self, dataset: Dataset, names: Sequence[str], config: TrainConfig, device: torch.device) -> None:
        """
        Args:
            dataset: what is measured on.
            names: of all classes; empty where captions are no names of classes.
            config: resolved; the last stage's resolution, `run.templates` and `run.precision` are used.
        """
        self.dataset, self.names, self.config, self.device = dataset, list(names), config, device
        self.tokenizer = get_text_tokenizer(towers(config, config.stages[-1].image_size)[1].context_length)

    def __call__(self, model: pe.CLIP) -> Measured:
        """Figures of a model in evaluation mode, on the device.

        Raises:
            UnusableError: nothing can be read.
        """
        media, captions, left_out = self._media(model)
        scale = min(float(model.logit_scale.detach().exp()), self.config.loss.max_logit_scale)
        found = self._classify if self.names else self._retrieve
        figures, counts, loss, right = found(model, media, captions, scale)
        classes = {name: [hit for hit, own in zip(right, captions, strict=False) if own == name] for name in self.names}
        return Measured(
            figures,
            {name: interval(value, counts[name]) for name, value in figures.items()},
            loss,
            len(captions),
            left_out,
            tuple(right),
            {name: (sum(hits), len(hits)) for name, hits in classes.items() if hits},
        )

    def _media(self, model: pe.CLIP) -> tuple[Tensor, list[str], dict[str, int]]:
        """Features (N, D) of length 1 and the captions, in the order of the data set."""
        data = self.config.data
        size = self.config.stages[-1].image_size
        prepare = Prepare(TrainTransform(preprocess_of(self.config, size), None), data.frames)
        stream = self.dataset.stream(prepare, Order(shuffle=False), epochs=1, workers=data.workers)
        rows, waiting, captions = list[Tensor](), list[Tensor](), list[str]()
        for ready in stream:
            captions.append(ready.caption)
            waiting.append(ready.pixels)
            if len(waiting) * max(1, data.frames) >= _ROWS:
                rows.append(self._encode(model, torch.stack(waiting)))
                waiting = []
        if waiting:
            rows.append(self._encode(model, torch.stack(waiting)))
        return torch.cat(rows), captions, dict(stream.skipped)

    def _encode(self, model: pe.CLIP, x: Tensor) -> Tensor:
        x = x.to(self.device)
        encode = model.encode_text if x.ndim == 2 else model.encode_video if x.ndim == 5 else model.encode_image
        with torch.no_grad(), autocast(self.device, self.config.run.precision == "bf16"):
            return F.normalize(encode(x).float(), dim=-1).cpu()

    def _texts(self, model: pe.CLIP, texts: list[str]) -> Tensor:
        return torch.cat([self._encode(model, part) for part in self.tokenizer(texts).split(_ROWS)])

    def _classify(
        self, model: pe.CLIP, media: Tensor, captions: list[str], scale: float
    ) -> tuple[dict[str, float], dict[str, int], float, list[bool]]:
        templates = resolve_templates(self.config.run.templates)
        logits = media @ build_classifier(lambda texts: self._texts(model, texts), self.names, templates)
        targets = torch.tensor([self.names.index(caption) for caption in captions])
        found = classification(logits, targets)
        figures = {"top1": found["acc1"]} | ({"top5": found["acc5"]} if len(self.names) >= 5 else {})
        right = (logits.argmax(dim=1) == targets).tolist()
        return figures, dict.fromkeys(figures, len(targets)), F.cross_entropy(scale * logits, targets).item(), right

    def _retrieve(
        self, model: pe.CLIP, media: Tensor, captions: list[str], scale: float
    ) -> tuple[dict[str, float], dict[str, int], float, list[bool]]:
        unique = {caption: number for number, caption in enumerate(sorted(set(captions)))}
        texts = self._texts(model, list(unique))
        rows = torch.tensor([unique[caption] for caption in captions])
        positives = torch.arange(len(unique))[:, None] == rows
        found = retrieval(texts @ media.T, positives, k=(1, 5), dual_softmax=False)
        figures = {key.replace("_retrieval", ""): value for key, value in found.items()}
        counts = {key: len(unique) if key.startswith("image") else len(captions) for key in figures}
        groups = torch.tensor(group_ids(captions))
        loss = contrastive(media, texts[rows], torch.tensor(scale), groups).item()
        scores = texts @ media.T
        found_media = positives.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0]
        return figures, counts, loss, [*(scores.argmax(dim=0) == rows).tolist(), *found_media.tolist()]
