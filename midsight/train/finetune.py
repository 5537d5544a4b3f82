"""What is done with finetuned weights behind the last step: merged, measured against the start, interpolated with it.

Finetuning on a few pictures makes a model forget others. Weights between the start's and the tuned ones often keep
both (WiSE-FT, arXiv 2109.01903): theta = (1 - alpha) start + alpha tuned. `ALPHAS` are measured on the held-out part
and on `finetune.also`; saved is `finetune.alpha`, or the best one: the highest mean of their scores, the lower loss
where these are equal. The best one is chosen on the pictures that it is then reported on, so its figures are
slightly too good; the report says so. Without a held-out part, the tuned weights are saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import comb
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import pe
from midsight.checkpoints.writer import write_json
from midsight.data.datasets import open_dataset
from midsight.data.splits import Split
from midsight.data.splits import split as split_data
from midsight.files import Journal, atomic_write
from midsight.train import adapt, report
from midsight.train.config import TrainConfig, towers
from midsight.train.measure import Measured, Ruler
from midsight.train.start import start_model

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
HELD_OUT, ALSO = "held-out", "also"


class Finetuning:
    """The finish of a run (see `midsight.train.loop.Finish`); writes `report.json` and `report.html`, and adapters."""

    def __init__(self, config: TrainConfig, data: Split, folder: Path, device: torch.device) -> None:
        """
        Args:
            config: resolved.
            data: what was trained on and what was held out.
            folder: of the run.

        Raises:
            InputError: `finetune.also` cannot be measured on.
        """
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.rulers: dict[str, Ruler] = {}
        if data.held_out is not None:
            names = data.captions if data.train.classes else ()
            self.rulers[HELD_OUT] = Ruler(data.held_out, names, config, device)
        if config.finetune.also:
            self.rulers[ALSO] = self._also(config)

    def begin(self) -> dict[str, float]:
        """Figures of the start, so that data that cannot be measured are found before they are trained on.

        Raises:
            UnusableError: nothing of the held-out part or of `finetune.also` can be read.
        """
        model = start_model(self.config, stage=-1).to(self.device).eval()
        found = {name: ruler(model) for name, ruler in self.rulers.items()}
        return {f"start_{name}_{key}": value for name, m in found.items() for key, value in m.figures.items()}

    def __call__(self, tuned: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights to save, and the report."""
        config = self.config
        vision, text = towers(config, config.stages[-1].image_size)
        start = {name: value.clone() for name, value in start_model(config, stage=-1).state_dict().items()}
        merged = adapt.merge(tuned, vision, text, config.finetune)
        model = pe.CLIP(vision, text).to(self.device).eval()
        wanted = config.finetune.alpha
        alphas = sorted({*ALPHAS, *([] if wanted is None else [wanted])}) if self.rulers else []
        found = {alpha: self._measure(model, between(start, merged, alpha)) for alpha in alphas}
        alpha = wanted if wanted is not None else best(found) if self._chooses else 1.0
        if config.finetune.mode == "lora":
            adapt.save_adapters(self.folder / "adapters", tuned, pe.CLIP(vision, text), config.finetune, alpha)
        figures = self._report(found, alpha)
        write_json(self.folder / "report.json", figures)
        with atomic_write(self.folder / "report.html") as file:
            file.write(report.page(figures, losses_of(self.folder)).encode())
        return between(start, merged, alpha), figures

    @property
    def _chooses(self) -> bool:
        """Whether the best alpha is taken; without a held-out part, what was not trained alone would say: the start."""
        return self.config.finetune.alpha is None and HELD_OUT in self.rulers

    def _also(self, config: TrainConfig) -> Ruler:
        dataset = open_dataset(config.finetune.also, evaluation=True)
        whole = split_data(dataset, 0.0, "video" if config.data.frames else "image")
        return Ruler(dataset, whole.captions if dataset.classes else (), config, self.device)

    def _measure(self, model: pe.CLIP, weights: Mapping[str, Tensor]) -> dict[str, Measured]:
        model.load_state_dict(weights)
        return {name: ruler(model) for name, ruler in self.rulers.items()}

    def _report(self, found: Mapping[float, Mapping[str, Measured]], alpha: float) -> dict[str, Any]:
        config = self.config
        compared = {name: compare(found[0.0][name], found[alpha][name]) for name in self.rulers}
        return {
            "start": config.model.start,
            "data": config.data.source,
            "also": config.finetune.also,
            "samples": self.data.samples,
            "batch_size": config.data.batch_size,
            "finetune": asdict(config.finetune),
            "classes_without_held_out": list(self.data.alone),
            "alpha": alpha,
            "chosen": self._chooses,
            "compared": compared,
            "verdict": [sentence(name, comparison) for name, comparison in compared.items()],
            "curve": [{"alpha": a, **{n: m.record() for n, m in sets.items()}} for a, sets in found.items()],
        }


def between(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) start + alpha tuned; the ends are exact."""
    if alpha in (0.0, 1.0):
        return dict(tuned if alpha else start)
    return {name: torch.lerp(start[name], value, alpha) for name, value in tuned.items()}


def best(found: Mapping[float, Mapping[str, Measured]]) -> float:
    """The alpha of the highest mean score over the data sets; of equal ones, that of the lowest mean loss."""

    def rank(alpha: float) -> tuple[float, float]:
        sets = list(found[alpha].values())
        return sum(m.score for m in sets) / len(sets), -sum(m.loss for m in sets) / len(sets)

    return max(found, key=rank)


def compare(before: Measured, after: Measured) -> dict[str, Any]:
    """Two sets of weights on the same samples: how many answers changed, and how likely that is by chance.

    `p` is the exact two-sided sign test over the answers that became right or wrong.
    """
    pairs = list(zip(before.right, after.right, strict=True))
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    return {
        "before": before.record(),
        "after": after.record(),
        "answers": len(pairs),
        "gained": gained,
        "lost": lost,
        "p": sign_test(gained, lost),
    }


def sign_test(one: int, other: int) -> float:
    """Two-sided probability of a split at least as uneven, where both sides are equally likely."""
    trials, most = one + other, max(one, other)
    return min(1.0, 2 * sum(comb(trials, k) for k in range(most, trials + 1)) / 2**trials)


def sentence(name: str, compared: Mapping[str, Any]) -> str:
    """What came of it on one data set, in words: better, worse, or no difference that can be told."""
    gained, lost = compared["gained"], compared["lost"]
    changed = f"of {compared['answers']} answers {gained} became right and {lost} wrong"
    if gained == lost:
        return f"{name}: neither better nor worse ({changed})"
    word = "better" if gained > lost else "WORSE"
    sure = "" if compared["p"] < 0.05 else "; so few changes can be chance"
    return f"{name}: {word} ({changed}{sure})"


def losses_of(folder: Path) -> Sequence[tuple[int, float]]:
    """Steps and losses of a run's log; of a step that was done twice, the last."""
    records = Journal(folder / "log.jsonl")
    return sorted({r["step"]: r["loss"] for r in records if r.get("loss") is not None}.items())
