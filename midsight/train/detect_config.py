"""Settings of detector finetuning; a recipe is a TOML file with only what differs.

The defaults are the published Mask R-CNN's (PE paper, B.3.4 and table 24, and the published configurations). Not
published, and chosen here: gradient clipping, and that biases, norms, LayerScale and the position table do not decay.
DETA's stages (table 25) are in its recipe.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from midsight.tasks.detection.augment import JitterConfig
from midsight.tasks.detection.deta_losses import DETALossConfig
from midsight.tasks.detection.losses import MaskRCNNLossConfig
from midsight.train.config import read_settings, require


@dataclass(frozen=True)
class DetectModelConfig:
    """Which detector, and the weights to begin with."""

    kind: Literal["mask_rcnn", "deta"] = "mask_rcnn"  # a start says itself which it is
    start: str = ""  # a detector: a published name or a folder; heads stay fresh where the classes differ
    checkpoint: str = ""  # file of the start's weights, where it is not the published one
    tower: str = ""  # a plain encoder: name, folder, checkpoint, repository; its detector parts are fresh
    vision: dict[str, Any] = field(default_factory=dict)  # fields of PEConfig, over those of `start` or `tower`
    detector: dict[str, Any] = field(default_factory=dict)  # fields of MaskRCNNConfig or DETAConfig
    labels: Literal["contiguous", "category_id"] = "contiguous"  # category_id: as the published DETA's
    frozen: bool = False  # the tower is not trained


@dataclass(frozen=True)
class DetectDataConfig:
    """COCO's format: a folder of pictures and a file of annotations."""

    images: str = ""
    annotations: str = ""
    validation_images: str = ""  # empty: as `images`
    validation_annotations: str = ""  # empty: nothing is measured
    federated: bool = False  # LVIS's evaluation
    batch_size: int = 64
    workers: int = 2
    repeat_threshold: float = 0.0  # LVIS 0.001: pictures of classes in a smaller share of pictures come more often


@dataclass(frozen=True)
class DetectOptimConfig:
    """AdamW, and a learning rate that drops by steps."""

    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    layer_decay: float = 0.9  # factor of the learning rate for each block away from the output
    warmup_steps: int = 250
    warmup_factor: float = 0.001  # of the first step
    drops: tuple[float, ...] = (163_889 / 184_375, 177_546 / 184_375)  # parts of the run behind which it is a tenth
    clip: float | None = None  # longest gradient; 0 in a recipe means none


@dataclass(frozen=True)
class DetectRunConfig:
    """How it is run; nothing here changes what is learned, apart from rounding."""

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_checkpointing: bool = False
    log_every: int = 20  # steps
    save_every: int = 1000
    keep: int = 2  # checkpoints
    evaluate_every: int = 0  # steps; 0: at the end only


@dataclass(frozen=True)
class DetectConfig:
    """Everything that decides a run."""

    seed: int = 0
    epochs: float = 75
    steps: int = 0  # 0: as epochs say
    model: DetectModelConfig = field(default_factory=DetectModelConfig)
    data: DetectDataConfig = field(default_factory=DetectDataConfig)
    augment: JitterConfig = field(default_factory=JitterConfig)
    optim: DetectOptimConfig = field(default_factory=DetectOptimConfig)
    mask_rcnn: MaskRCNNLossConfig = field(default_factory=MaskRCNNLossConfig)
    deta: DETALossConfig = field(default_factory=DETALossConfig)
    run: DetectRunConfig = field(default_factory=DetectRunConfig)

    def __post_init__(self) -> None:
        require(self.model.kind in ("mask_rcnn", "deta"), "model.kind must be mask_rcnn or deta", self.model.kind)
        labels = self.model.labels
        require(labels in ("contiguous", "category_id"), "model.labels: contiguous or category_id", labels)
        require(self.epochs > 0 and self.steps >= 0, "epochs must be above 0, steps 0 or more", self.steps)
        require(self.data.batch_size >= 1, "data.batch_size must be at least 1", self.data.batch_size)
        require(self.data.workers >= 1, "data.workers must be at least 1", self.data.workers)
        require(self.optim.lr > 0, "optim.lr must be above 0", self.optim.lr)
        decay = self.optim.layer_decay
        require(0 < decay <= 1, "optim.layer_decay must be above 0 and at most 1", decay)
        require(self.run.precision in ("fp32", "bf16"), "run.precision must be fp32 or bf16", self.run.precision)
        for name in ("log_every", "save_every", "keep"):
            require(getattr(self.run, name) >= 1, f"run.{name} must be at least 1", getattr(self.run, name))

    def digest(self) -> str:
        """Names everything that decides the weights, 16 hexadecimal digits."""
        values = dataclasses.asdict(self)
        for name in ("images", "annotations", "validation_images", "validation_annotations", "federated", "workers"):
            del values["data"][name]  # the data's content is compared by itself
        del values["run"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def read_detect_recipe(path: str | Path, changes: tuple[str, ...] | list[str] = ()) -> DetectConfig:
    """A recipe file, or a shipped one by name, with changes such as `optim.lr=1e-4` put on top.

    Raises:
        ConfigError: the file cannot be read, or a setting does not exist; the nearest one is named.
    """
    return read_settings(DetectConfig(), path, changes)
