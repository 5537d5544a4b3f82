"""Settings of spatial alignment; a recipe is a TOML file with only what differs.

The defaults are those of PE-Spatial-G (PE paper, section 5.2, B.3.1 and tables 21 to 23). Not published, and chosen
here: what stands in place of a hidden patch (one learned vector), the same rate of DropPath in all blocks, the learning
rate's curve (a cosine to zero), clipping, and all hyper-parameters of the smaller sizes.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from midsight.train.config import OptimConfig, read_settings, require
from midsight.transforms.augment import AugmentConfig


@dataclass(frozen=True)
class SpatialModelConfig:
    """The student, and how much of it is trained."""

    start: str = ""  # a PE-Core: name, folder, checkpoint, repository, "embedded"
    image_size: int = 448  # pixels, of student and teachers
    layer_scale: float | None = 0.1  # put into all blocks; 0 in a recipe leaves the start's, or none
    drop_path: float = 0.4
    frozen: tuple[str, ...] = ()  # beginnings of the names of what is not trained, such as "stem."


@dataclass(frozen=True)
class SemanticConfig:
    """Each token is drawn to the start's own token behind a middle layer."""

    layer: int = -10  # layer_idx of the start: layer 41 of G's 50
    weight: float = 1.0  # 0: left out


@dataclass(frozen=True)
class LocalityConfig:
    """Tokens are as alike as the masks they lie in."""

    teacher: Literal["scenes", "sam", "none"] = "sam"
    name: str = "facebook/sam2.1-hiera-large"  # of sam: repository or folder, as transformers takes it
    weight: float = 1.0
    temperature: float = 20.0
    points: int = 32  # of sam: a grid of so many by so many
    sam_size: int = 1024  # pixels
    sam_points_at_once: int = 64


@dataclass(frozen=True)
class SpatialTeacherConfig:
    """A larger PE-Spatial, in place of both (PE paper, NeurIPS version, E.3): its pairs of tokens, and its tokens."""

    start: str = ""  # name, folder, checkpoint, repository
    pairs: float = 1.0  # weight of the squared difference of the cosines between tokens
    tokens: float = 1.0  # weight of one minus the cosine to its token, behind a linear map of widths


@dataclass(frozen=True)
class HideConfig:
    """Patches that the student does not see, as MaskFeat hides them."""

    ratio: float = 0.75  # 0: none
    block: int = 2  # patches, each way


@dataclass(frozen=True)
class SpatialDataConfig:
    """Pictures: any data set; captions are not needed."""

    source: str = ""
    batch_size: int = 12_288  # over all processes
    micro_batch: int = 8
    workers: int = 2


@dataclass(frozen=True)
class SpatialRunConfig:
    """How it is run; nothing here changes what is learned, apart from rounding."""

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_checkpointing: bool = False
    log_every: int = 10  # steps
    save_every: int = 1000
    keep: int = 2  # checkpoints
    grace_seconds: float = 15.0


@dataclass(frozen=True)
class SpatialConfig:
    """Everything that decides a run."""

    seed: int = 0
    steps: int = 24_000
    model: SpatialModelConfig = field(default_factory=SpatialModelConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    locality: LocalityConfig = field(default_factory=LocalityConfig)
    teacher: SpatialTeacherConfig = field(default_factory=SpatialTeacherConfig)
    hide: HideConfig = field(default_factory=HideConfig)
    data: SpatialDataConfig = field(default_factory=SpatialDataConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4, warmup_steps=0))
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(area=(1.0, 1.0)))
    run: SpatialRunConfig = field(default_factory=SpatialRunConfig)

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps must be at least 1", self.steps)
        require(self.data.batch_size >= 1, "data.batch_size must be at least 1", self.data.batch_size)
        require(self.data.micro_batch >= 1, "data.micro_batch must be at least 1", self.data.micro_batch)
        require(0 <= self.model.drop_path < 1, "model.drop_path must be from 0 to below 1", self.model.drop_path)
        require(0 <= self.hide.ratio < 1, "hide.ratio must be from 0 to below 1", self.hide.ratio)
        require(self.hide.block >= 1, "hide.block must be at least 1", self.hide.block)
        kinds = ("scenes", "sam", "none")
        require(self.locality.teacher in kinds, "locality.teacher: scenes, sam or none", self.locality.teacher)
        require(self.locality.temperature > 0, "locality.temperature must be above 0", self.locality.temperature)
        require(self.run.precision in ("fp32", "bf16"), "run.precision must be fp32 or bf16", self.run.precision)
        weights = (self.semantic.weight, self.locality.weight, self.teacher.pairs, self.teacher.tokens)
        require(min(weights) >= 0, "weights of losses must be 0 (left out) or more", min(weights))
        require(self.optim.lr > 0, "optim.lr must be above 0", self.optim.lr)
        for name in ("log_every", "save_every", "keep"):
            require(getattr(self.run, name) >= 1, f"run.{name} must be at least 1", getattr(self.run, name))

    def digest(self) -> str:
        """Names everything that decides the weights, 16 hexadecimal digits."""
        values = dataclasses.asdict(self)
        del values["run"], values["data"]["micro_batch"], values["data"]["workers"], values["data"]["source"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def read_spatial_recipe(path: str | Path, changes: Sequence[str] = ()) -> SpatialConfig:
    """A recipe file, or a shipped one by name, with changes such as `optim.lr=1e-3` put on top.

    Raises:
        ConfigError: the file cannot be read, or a setting does not exist; the nearest one is named.
    """
    return read_settings(SpatialConfig(), path, changes)
