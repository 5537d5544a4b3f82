"""What a run costs before anyone spends it: memory, arithmetic, time, money. All from shapes, with its assumptions."""

from dataclasses import dataclass

from midsight.configs import PEConfig, PETextConfig
from midsight.errors import ConfigError
from midsight.train.config import TrainConfig, resolve, towers

PEAK_FLOPS = {  # dense bf16 tensor cores, per second, from the makers' data sheets
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}
_BYTES_OF_STATE = 16  # a float32 weight, its gradient, two moments
_GIB = 2**30


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted."""

    gpu: str = "H100"
    gpus: int = 8
    mfu: float = 0.35  # share of the peak that training reaches
    price: float = 2.5  # US dollars for one GPU and hour


@dataclass(frozen=True)
class StagePlan:
    """One resolution."""

    image_size: int
    samples: int
    steps: int
    flops: float
    hours: float
    memory_gib: float  # of one GPU


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    assumptions: Assumptions
    vision_parameters: int
    text_parameters: int
    passes: int  # forward passes for each sample, of which one is through the cached embeddings' first pass
    stages: tuple[StagePlan, ...]

    @property
    def flops(self) -> float:
        return sum(stage.flops for stage in self.stages)

    @property
    def hours(self) -> float:
        return sum(stage.hours for stage in self.stages)

    @property
    def cost(self) -> float:
        """US dollars."""
        return self.hours * self.assumptions.gpus * self.assumptions.price

    @property
    def memory_gib(self) -> float:
        return max(stage.memory_gib for stage in self.stages)


def vision_parameters(config: PEConfig) -> int:
    """Parameters of a tower with the published patch embedding."""
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    block += 2 * width if config.ls_init_value is not None else 0
    total = 3 * config.patch_size**2 * width + config.layers * block
    total += width * (config.grid**2 + config.use_cls_token) if config.use_abs_posemb else 0
    total += width * config.use_cls_token + 2 * width * (config.use_ln_pre + config.use_ln_post)
    if config.pool_type == "attn":
        total += width + 12 * width**2 + 9 * width + 2 * width
    return total + (width * config.output_dim if config.output_dim else 0)


def text_parameters(config: PETextConfig) -> int:
    """Parameters of the text tower, its table included."""
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    table = (config.vocab_size + config.context_length) * width
    return table + config.layers * block + 2 * width + width * config.output_dim


def vision_flops(config: PEConfig, image_size: int, visible: float = 1.0) -> float:
    """Floating-point operations of one forward pass of one image; a multiplication and an addition are two.

    Args:
        visible: share of tokens, 1 where masked patches are replaced and not left out.
    """
    width, hidden = config.width, config.width * config.mlp_ratio
    patches = (image_size // config.patch_size) ** 2
    tokens = (patches + config.use_cls_token) * visible
    block = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens**2 * width
    total = 2 * patches * 3 * config.patch_size**2 * width + config.layers * block
    if config.pool_type == "attn":
        total += 2 * (tokens * 2 * width**2 + 10 * width**2) + 4 * tokens * width
    return total + (2 * width * config.output_dim if config.output_dim else 0)


def text_flops(config: PETextConfig, tokens: int | None = None) -> float:
    """Floating-point operations of one forward pass of one text of full length."""
    width, hidden, n = config.width, config.width * config.mlp_ratio, tokens or config.context_length
    block = 2 * n * (4 * width**2 + 2 * width * hidden) + 4 * n**2 * width
    return config.layers * block + 2 * width * config.output_dim


def flops_per_sample(config: TrainConfig, image_size: int) -> float:
    """Model FLOPs of training on one pair: forward and twice as much backward, with the masked copies.

    What recomputation and the first pass of cached embeddings add is not counted, as is usual for utilisation.
    """
    vision, text = towers(config, image_size)
    seen = max(1, config.data.frames) + (config.mask.fraction if config.steps.mask else 0.0)
    return 3 * (seen * vision_flops(vision, image_size) + text_flops(text))


def make_plan(config: TrainConfig, assumptions: Assumptions) -> Plan:
    """The plan of a recipe.

    Raises:
        ConfigError: a recipe that cannot be, or a batch that the GPUs cannot share evenly.
    """
    config = resolve(config)
    rows = rows_of(config, assumptions.gpus)
    micro = min(config.data.micro_batch, rows)
    passes = 1 if micro == rows else 2
    extra = passes - 1 + int(config.run.grad_checkpointing)  # forward passes that model FLOPs do not count
    speed = assumptions.gpus * PEAK_FLOPS[assumptions.gpu] * assumptions.mfu
    stages = []
    for stage in config.stages:
        steps = stage.samples // config.data.batch_size
        flops = steps * config.data.batch_size * flops_per_sample(config, stage.image_size)
        hours = flops * (3 + extra) / 3 / speed / 3600
        memory = _memory(config, stage.image_size, micro, rows, assumptions.gpus)
        stages.append(StagePlan(stage.image_size, stage.samples, steps, flops, hours, memory / _GIB))
    vision, text = towers(config, config.stages[-1].image_size)
    return Plan(assumptions, vision_parameters(vision), text_parameters(text), passes, tuple(stages))


def rows_of(config: TrainConfig, processes: int) -> int:
    """Rows of one process.

    Raises:
        ConfigError: the batch cannot be shared evenly.
    """
    if processes < 1 or config.data.batch_size % processes:
        raise ConfigError(f"data.batch_size {config.data.batch_size} cannot be shared evenly by {processes} processes")
    return config.data.batch_size // processes


def _memory(config: TrainConfig, image_size: int, micro: int, rows: int, gpus: int) -> float:
    """Bytes of one GPU: state, activations of one micro batch, embeddings and logits of the batch."""
    vision, text = towers(config, image_size)
    number = 2 if config.run.precision == "bf16" else 4
    shards = gpus if config.run.sharding == "full" else 1
    parameters = vision_parameters(vision) + text_parameters(text)
    largest = 12 * max(vision.width, text.width) ** 2 * number * 2  # two blocks gathered at a time
    frames = max(1, config.data.frames)
    tokens = frames * ((image_size // vision.patch_size) ** 2 + vision.use_cls_token)
    kept = _activations(tokens, vision.width, vision.mlp_ratio, vision.layers, config.run.grad_checkpointing, number)
    kept += _activations(
        text.context_length, text.width, text.mlp_ratio, text.layers, config.run.grad_checkpointing, number
    )
    dim = text.output_dim
    batch = 4 * (2 * config.data.batch_size * dim * 2 + 3 * rows * config.data.batch_size)
    return parameters * _BYTES_OF_STATE / shards + largest + micro * kept + batch


def _activations(tokens: float, width: int, mlp_ratio: float, layers: int, recomputed: bool, number: int) -> float:
    """Bytes that the backward pass of one sample needs: about (10 + 2 x MLP ratio) widths a token and block."""
    block = (10 + 2 * mlp_ratio) * tokens * width * number
    return layers * tokens * width * number + block if recomputed else layers * block
