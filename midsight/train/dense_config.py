"""Settings of training heads over a frozen encoder; recipes and `--set` as for core training.

Published: AdamW at 1e-3 (PE paper, B.3.3); NYU for 20 epochs, the lowest validation loss (the same). From DINOv2's
reference where PE's are not published: weight decay 1e-4, a rate that falls in a straight line, 40,000 steps, a
warm-up of 1,500 of them from a millionth, batches of 16, depth bins and losses.

Chosen here: pictures are squashed to one size and never varied, so that their features are computed once; the warm-up
is that share of a run of any length.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from midsight.tasks.depth.head import DepthRange
from midsight.tasks.depth.losses import GRADIENT_WEIGHT
from midsight.tasks.heads import KINDS, Kind
from midsight.train.config import require


@dataclass(frozen=True)
class EncoderSettings:
    """The frozen encoder and where it is read."""

    name: str = ""  # name, folder, checkpoint or "embedded"
    layers: tuple[int, ...] = (-1,)  # 0-based, negative from the end
    norm: bool = False  # the tower's final norm on each map


@dataclass(frozen=True)
class HeadSettings:
    """The head; see `midsight.tasks.heads.HeadConfig`."""

    kind: Kind = "bn_linear"
    features: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class DenseDataSettings:
    """Where pictures are and how many are used at once."""

    source: str = ""  # folder of the training set
    validation: str = ""  # folder of the validation set; empty: the same, where it has one
    image_size: int = 0  # pixels; 0: the encoder's own
    target_size: int = 0  # pixels that targets are thinned to, which is faster; 0: image_size
    batch_size: int = 16
    cache: str = ""  # folder of kept features; empty: in the run's folder
    cache_gib: float = 20.0  # most that they may take


@dataclass(frozen=True)
class DenseOptimSettings:
    """AdamW, with a rate that rises from almost nothing and falls to zero."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    power: float = 1.0  # of the fall: 1 is a straight line
    warmup: float = 1500 / 40_000  # share of all steps
    warmup_ratio: float = 1e-6  # of the rate, at the first step

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (0-based) of `steps`."""
        rate = self.lr * (1 - step / steps) ** self.power
        rising = round(self.warmup * steps)
        if step < rising:
            rate *= 1 - (1 - step / rising) * (1 - self.warmup_ratio)
        return rate


@dataclass(frozen=True)
class DenseRunSettings:
    """How it is run."""

    device: str = "auto"
    log_every: int = 50  # steps
    save_every: int = 500
    evaluate_every: int = 0  # steps; 0: each epoch where a run counts epochs, else at its end


@dataclass(frozen=True)
class LabelSettings:
    """What the numbers in label maps mean; see `midsight.data.segmentation.LabelConfig`."""

    classes: int = 0  # must be set
    zero_is_void: bool = False
    void: int = 255
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DepthSettings:
    """What the numbers in depth maps mean, and the bins of the head."""

    scale: float = 1000.0  # steps in a metre
    nyu_border: bool = False  # cut the white border of NYU's training pictures off
    range: DepthRange = field(default_factory=DepthRange)
    gradient_weight: float = GRADIENT_WEIGHT


@dataclass(frozen=True)
class DenseConfig:
    """What segmentation and depth share."""

    seed: int = 0
    steps: int = 40_000
    epochs: int = 0  # above 0: the length of the run, in place of steps
    keep_best: bool = False  # save the weights that were best in validation, not the last ones
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    data: DenseDataSettings = field(default_factory=DenseDataSettings)
    optim: DenseOptimSettings = field(default_factory=DenseOptimSettings)
    run: DenseRunSettings = field(default_factory=DenseRunSettings)

    def __post_init__(self) -> None:
        require(self.head.kind in KINDS, f"head.kind must be one of {', '.join(KINDS)}", self.head.kind)
        require(bool(self.encoder.layers), "encoder.layers needs at least one layer", self.encoder.layers)
        require(self.steps >= 1, "steps must be at least 1", self.steps)
        require(self.epochs >= 0, "epochs must be 0 (as steps say) or more", self.epochs)
        require(self.data.batch_size >= 1, "data.batch_size must be at least 1", self.data.batch_size)
        require(self.data.cache_gib >= 0, "data.cache_gib must be 0 (keep nothing) or more", self.data.cache_gib)
        require(self.data.image_size >= 0, "data.image_size must be 0 (the encoder's) or more", self.data.image_size)
        require(self.data.target_size >= 0, "data.target_size must be 0 (as image_size) or more", self.data.target_size)
        require(self.optim.lr > 0, "optim.lr must be above 0", self.optim.lr)
        require(0 <= self.optim.warmup < 1, "optim.warmup is a share of the run, below 1", self.optim.warmup)
        for name in ("log_every", "save_every"):
            require(getattr(self.run, name) >= 1, f"run.{name} must be at least 1", getattr(self.run, name))

    def digest(self) -> str:
        """Names everything that decides the weights; where data lie and how it is run do not count."""
        values: dict[str, Any] = dataclasses.asdict(self)
        del values["run"], values["data"]["source"], values["data"]["validation"]
        del values["data"]["cache"], values["data"]["cache_gib"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def length(self, samples: int) -> int:
        """Steps of the run on so many samples."""
        return self.epochs * -(-samples // self.data.batch_size) if self.epochs else self.steps

    def evaluate_every(self, samples: int) -> int:
        """Steps from one validation to the next; there is one behind the last step in any case."""
        if self.run.evaluate_every:
            return self.run.evaluate_every
        return -(-samples // self.data.batch_size) if self.epochs else self.steps


@dataclass(frozen=True)
class SegmentTrainConfig(DenseConfig):
    """A run of `midsight train segment`."""

    labels: LabelSettings = field(default_factory=LabelSettings)


@dataclass(frozen=True)
class DepthTrainConfig(DenseConfig):
    """A run of `midsight train depth`."""

    epochs: int = 20
    keep_best: bool = True
    depth: DepthSettings = field(default_factory=DepthSettings)
