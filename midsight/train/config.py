"""Settings of core training: the dataclasses are the schema, a recipe is a TOML file with only what differs.

A recipe describes the whole published method. Each of the nine steps of the published ablation (PE paper, figure 2
and table 26) is one switch in `steps`: all off is the baseline, step 1; each switch takes its step back where it is
off. `resolve` turns recipe and switches into what is run.

Not published, and to be chosen in the recipe: samples of each resolution in the final runs, precision, the learning
rate's curve, clipping, the weight of mask regularisation.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from midsight.configs import PEConfig, PETextConfig, PreprocessConfig, find_model
from midsight.errors import ConfigError
from midsight.transforms.augment import AugmentConfig

C = TypeVar("C")
STEPS = ("progressive", "large_batch", "lamb", "high_resolution", "rope2d", "attn_pool", "augment", "mask")


@dataclass(frozen=True)
class StepsConfig:
    """The published ablation's steps 2 to 9, in its order; step 1 is the baseline, with all of them off."""

    progressive: bool = True  # 2: several resolutions; off: one stage at the largest, as many samples
    large_batch: bool = True  # 3: off: half the batch and half the samples
    lamb: bool = True  # 4: off: AdamW at `optim.adamw_lr`
    high_resolution: bool = True  # 5: the last stage; off: its samples and all others are spread evenly over the rest
    rope2d: bool = True  # 6
    attn_pool: bool = True  # 7: off: the class token is the embedding
    augment: bool = True  # 8
    mask: bool = True  # 9


@dataclass(frozen=True)
class ModelConfig:
    """A published name, or towers of one's own; `start` gives the weights to begin with."""

    name: str = ""  # a published pair; empty: the towers of `start`, or `vision` and `text` say everything
    vision: dict[str, Any] = field(default_factory=dict)  # fields of PEConfig, over those of `name` or `start`
    text: dict[str, Any] = field(default_factory=dict)  # fields of PETextConfig
    preprocess: dict[str, Any] = field(default_factory=dict)  # fields of PreprocessConfig but its size
    start: str = ""  # checkpoint, folder, name or repository, "embedded"; empty: random weights


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from and how many are used at once."""

    source: str = ""  # file or folder of samples
    batch_size: int = 131_072  # over all processes
    micro_batch: int = 64  # rows of one process that are computed at once; gradients do not depend on it
    frames: int = 0  # 0: images; else clips of so many frames
    resident: int = 0  # pixels; above 0, pictures are decoded once, squashed to this side and kept on the device
    workers: int = 2
    templates: str = "plain"  # where captions are names of classes: a name of templates, one is drawn for each sample


@dataclass(frozen=True)
class Stage:
    """One resolution of progressive training."""

    image_size: int  # pixels
    samples: int  # pairs seen, rounded down to whole batches


@dataclass(frozen=True)
class OptimConfig:
    """See `midsight.train.optim` for what is published and what is chosen."""

    name: Literal["lamb", "adamw"] = "lamb"
    lr: float = 2e-3
    adamw_lr: float = 5e-4  # used where `steps.lamb` is off
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    weight_decay: float = 0.05
    text_weight_decay: float | None = None  # None: as weight_decay
    warmup_steps: int = 2000
    layer_decay: float = 1.0  # factor of the learning rate for each block away from the output
    clip: float | None = 1.0  # longest gradient; 0 in a recipe means none


@dataclass(frozen=True)
class MaskConfig:
    """Mask regularisation. Ratio and fraction are published, weight and positions are chosen."""

    ratio: float = 0.4  # share of patches hidden
    fraction: float = 1 / 16  # share of the batch that gets a masked copy
    weight: float = 1.0
    positions: Literal["all", "hidden"] = "all"  # the tokens that are compared


@dataclass(frozen=True)
class LossConfig:
    """Contrastive training, or distillation where a teacher is named."""

    max_logit_scale: float = 100.0
    teacher: str = ""  # checkpoint, folder, name or repository, or one's own as module:function:argument
    teacher_logit_scale: float = 200.0
    teacher_texts: bool = False  # the teacher's embeddings of texts stand for the student's, whose text tower is idle
    teacher_features: float = 0.0  # weight of 1 - cosine to the teacher's embedding of each image, of the same width
    same_text: bool = False  # rows of equal captions are positives of each other, not negatives


@dataclass(frozen=True)
class FinetuneConfig:
    """What is trained of a model that one starts from, and how the result is measured; see `train.finetune`."""

    epochs: int = (
        0  # in place of `stages`: one at the start's resolution, each training sample so often; 0: as `stages`
    )
    mode: Literal["full", "lora"] = "full"
    locked: Literal["none", "image", "text"] = "none"  # a tower that stays as it is
    trunk: bool = False  # also train the packaged trunk of an embedded model
    only: tuple[str, ...] = ()  # beginnings of the names of what is trained; empty: all that is not locked
    lora_lr: float = 1e-3  # used in place of `optim.lr` where mode is lora
    lora_rank: int = 8
    lora_alpha: int = 16  # the adapters' product is scaled by alpha / rank
    lora_targets: tuple[str, ...] = ("out_proj", "c_fc", "c_proj")  # names of linear maps in both towers
    holdout: float = 0.0  # share of the samples that is measured and never trained
    also: str = ""  # a second data set to measure on: what must not be forgotten
    alpha: float | None = None  # (1 - alpha) start + alpha tuned is saved; None ("best" in a recipe): the best one

    def __post_init__(self) -> None:
        require(self.epochs >= 0, "finetune.epochs must be 0 (as stages say) or more", self.epochs)
        require(self.mode in ("full", "lora"), "finetune.mode must be full or lora", self.mode)
        require(self.locked in ("none", "image", "text"), "finetune.locked must be none, image or text", self.locked)
        require(self.lora_rank >= 1, "finetune.lora_rank must be at least 1", self.lora_rank)
        require(self.lora_lr > 0, "finetune.lora_lr must be above 0", self.lora_lr)
        require(0 <= self.holdout < 1, "finetune.holdout must be from 0 to below 1", self.holdout)
        require(self.alpha is None or 0 <= self.alpha <= 1, "finetune.alpha must be best or from 0 to 1", self.alpha)

    @property
    def finishes(self) -> bool:
        """Whether something is left to do behind the last step: merging, measuring, interpolating."""
        return self.mode == "lora" or self.holdout > 0 or bool(self.also) or self.alpha is not None


@dataclass(frozen=True)
class RunConfig:
    """How it is run; nothing here changes what is learned, apart from rounding."""

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_checkpointing: bool = False
    compile: bool = False
    sharding: Literal["full", "replicate"] = "full"  # over processes: FSDP2, or a whole copy in each
    log_every: int = 10  # steps
    save_every: int = 1000
    keep: int = 2  # checkpoints
    evaluate_every: int = 0  # steps; 0: never
    evaluate_on: str = ""  # folder with one folder of pictures for each class
    templates: str = "photo"
    grace_seconds: float = 15.0  # a process that is told to stop and reaches no end of a step leaves after this


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run."""

    seed: int = 0
    stages: tuple[Stage, ...] = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    steps: StepsConfig = field(default_factory=StepsConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        data, mask, optim = self.data, self.mask, self.optim
        require(data.batch_size >= 2, "data.batch_size must be at least 2 (a pair needs a negative)", data.batch_size)
        require(data.micro_batch >= 1, "data.micro_batch must be at least 1", data.micro_batch)
        require(data.frames >= 0, "data.frames must be 0 (images) or more", data.frames)
        require(data.resident >= 0, "data.resident must be 0 (decode anew) or a side in pixels", data.resident)
        require(not (data.resident and data.frames), "data.resident is for images: data.frames must be 0", data.frames)
        require(0 < mask.ratio < 1, "mask.ratio must be between 0 and 1", mask.ratio)
        require(0 < mask.fraction <= 1, "mask.fraction must be above 0 and at most 1", mask.fraction)
        require(mask.positions in ("all", "hidden"), "mask.positions must be all or hidden", mask.positions)
        require(optim.name in ("lamb", "adamw"), "optim.name must be lamb or adamw", optim.name)
        require(optim.lr > 0, "optim.lr must be above 0", optim.lr)
        weight = self.loss.teacher_features
        require(weight >= 0, "loss.teacher_features must be 0 (left out) or more", weight)
        require(0 < optim.layer_decay <= 1, "optim.layer_decay must be above 0 and at most 1", optim.layer_decay)
        require(self.run.precision in ("fp32", "bf16"), "run.precision must be fp32 or bf16", self.run.precision)
        require(self.run.sharding in ("full", "replicate"), "run.sharding: full or replicate", self.run.sharding)
        for name in ("log_every", "save_every", "keep"):
            require(getattr(self.run, name) >= 1, f"run.{name} must be at least 1", getattr(self.run, name))

    def digest(self) -> str:
        """Names everything that decides the weights, 16 hexadecimal digits; how it is run, where data lie and what is
        made of the weights behind the last step do not count."""
        values = dataclasses.asdict(self)
        del values["run"], values["data"]["micro_batch"], values["data"]["workers"], values["data"]["source"]
        del values["finetune"]["also"], values["finetune"]["alpha"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def require(holds: bool, message: str, found: object) -> None:
    """Raises ConfigError where a setting cannot be."""
    if not holds:
        raise ConfigError(f"{message}, got {found!r}")


def resolve(config: TrainConfig) -> TrainConfig:
    """The recipe with its switches carried out, in the order that takes the last step back first.

    With the recipe of ViT-L/14 this gives the published batch, samples and resolutions at each of the nine steps.

    Raises:
        ConfigError: no stages, or a batch that is larger than a stage.
    """
    require(
        bool(config.stages),
        "a recipe needs at least one [[stages]] with image_size and samples, or finetune.epochs and a start (--from)",
        config.stages,
    )
    steps, stages, data, optim = config.steps, config.stages, config.data, config.optim
    require(
        not (data.frames and steps.mask), "steps.mask must be false with data.frames: clips have no masked views", True
    )
    if not steps.high_resolution and len(stages) > 1:
        share = sum(s.samples for s in stages) // (len(stages) - 1)
        stages = tuple(replace(stage, samples=share) for stage in stages[:-1])
    if not steps.lamb:
        optim = replace(optim, name="adamw", lr=optim.adamw_lr)
    if config.finetune.mode == "lora":
        optim = replace(optim, lr=config.finetune.lora_lr)
    if not steps.large_batch:
        data = replace(data, batch_size=data.batch_size // 2)
        stages = tuple(replace(stage, samples=stage.samples // 2) for stage in stages)
    if not steps.progressive:
        stages = (Stage(max(s.image_size for s in stages), sum(s.samples for s in stages)),)
    for stage in stages:
        if stage.samples < data.batch_size:
            raise ConfigError(
                f"the stage at {stage.image_size} pixels has {stage.samples} samples, fewer than one batch of "
                f"{data.batch_size}; lower data.batch_size or raise its samples"
            )
    return replace(config, stages=stages, data=data, optim=optim)


def towers(config: TrainConfig, image_size: int) -> tuple[PEConfig, PETextConfig]:
    """Both towers at a resolution, with the switches of the architecture carried out.

    Raises:
        ConfigError: a field that the towers do not have, or values that cannot be.
    """
    vision, text = dict(config.model.vision), dict(config.model.text)
    if config.model.name:
        found = find_model(config.model.name)
        if found.text is None:
            raise ConfigError(f"model.name: {config.model.name} has no text tower; name a PE-Core model")
        vision = dataclasses.asdict(found.vision) | vision
        text = dataclasses.asdict(found.text) | text
    vision["image_size"] = image_size
    if not config.steps.rope2d:
        vision["use_rope2d"] = False
    if not config.steps.attn_pool:
        vision |= {"pool_type": "tok", "use_cls_token": True}
    return _build(PEConfig, vision, "model.vision"), _build(PETextConfig, text, "model.text")


def _build(kind: type[C], values: dict[str, Any], where: str) -> C:
    _check_names(values, [f.name for f in dataclasses.fields(kind)], where)  # type: ignore[arg-type]
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).split('() ')[-1]}; or set model.name to a published pair") from error


def total_steps(config: TrainConfig) -> int:
    """Steps of a resolved recipe, all stages."""
    return sum(stage.samples // config.data.batch_size for stage in config.stages)


def preprocess_of(config: TrainConfig, image_size: int) -> PreprocessConfig:
    """The start's preprocessing at a resolution, else the published one."""
    return _build(PreprocessConfig, config.model.preprocess | {"image_size": image_size}, "model.preprocess")


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """A recipe of core training; see `read_settings`."""
    return read_settings(TrainConfig(), path, changes)


def read_settings(config: C, path: str | Path | None, changes: Sequence[str] = ()) -> C:
    """A recipe file over a configuration, with changes such as `optim.lr=1e-3` put on top.

    Args:
        config: a dataclass of settings.
        path: a TOML file, or the name of one that is shipped ("core_l14"); None changes nothing.
        changes: KEY=VALUE, the value as in TOML; a bare word is taken as a text. `stages` is set as a whole.

    Raises:
        ConfigError: the file cannot be read, or a setting does not exist; the nearest one is named.
    """
    if path is not None:
        config = changed(config, _read(path), str(path))
    for change in changes:
        config = changed(config, _parse(change), "--set")
    return config


def as_metadata(config: Any) -> dict[str, Any]:
    """The settings of a run that go beside its weights: all but where and how it ran."""
    values = dataclasses.asdict(config)
    del values["run"], values["data"]["workers"]
    return values


def _read(path: str | Path) -> dict[str, Any]:
    file = Path(path)
    if not file.suffix and not file.exists():
        file = Path(__file__).parent / "recipes" / f"{path}.toml"
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable recipe: {error}") from error


def _parse(change: str) -> dict[str, Any]:
    """One KEY=VALUE as the table that TOML would make of it."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {change!r}: expected KEY=VALUE, such as optim.lr=1e-3")
    for text in (value.strip(), json.dumps(value.strip())):
        try:
            return tomllib.loads(f"{key.strip()} = {text}")
        except tomllib.TOMLDecodeError:
            continue
    raise ConfigError(f"--set {change!r}: {key!r} is not the name of a setting; expected one such as optim.lr")


def changed(config: C, values: dict[str, Any], where: str) -> C:
    """A dataclass with the values of a table put in, tables inside it too.

    Raises:
        ConfigError: a key that no setting has, or a value of the wrong type.
    """
    known = {f.name: f for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    _check_names(values, list(known), where)
    changes = {key: _value(getattr(config, key), value, f"{where}: {key}") for key, value in values.items()}
    return replace(config, **changes)  # type: ignore[type-var]


def _value(now: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(now):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is a table of settings, got {value!r}")
        return changed(now, value, where)
    if where.endswith(": stages"):
        return tuple(_build(Stage, stage, where) for stage in value)
    if isinstance(now, dict):
        return now | value if isinstance(value, dict) else _wrong(where, "a table", value)
    if where.endswith((": clip", ": text_weight_decay", ": alpha")):
        return _optional(where, value)
    if isinstance(now, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(now, tuple):
        return tuple(value) if isinstance(value, list) else _wrong(where, "a list", value)
    return value if type(value) is type(now) else _wrong(where, type(now).__name__, value)


def _optional(where: str, value: Any) -> float | None:
    """A number where None has a meaning of its own, for which a recipe has a word."""
    if where.endswith(": alpha") and value == "best":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong(where, "a number or best" if where.endswith(": alpha") else "a number", value)
    return (float(value) or None) if where.endswith(": clip") else float(value)


def _wrong(where: str, expected: str, value: object) -> Any:
    raise ConfigError(f"{where} must be {expected}, got {value!r}")


def _check_names(values: dict[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: there is no setting {key!r}{hint}")
