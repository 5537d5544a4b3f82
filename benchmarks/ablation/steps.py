"""The nine steps as they were published, and as settings of a recipe of ours.

Source: PE paper, section 2.1, figure 2 and table 26 (ViT-L/14; top-1 in percent, six sets and their mean).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from midsight.errors import ConfigError
from midsight.train.config import STEPS, TrainConfig, changed, read_recipe, resolve, total_steps
from midsight.train.plan import flops_per_sample

SETS = ("ImageNet val", "v2", "ObjectNet", "A", "R", "Sketch")


@dataclass(frozen=True)
class Step:
    """One row of the published table."""

    number: int
    title: str
    average: float  # percent
    sets: tuple[float, ...]  # percent, of `SETS`


PUBLISHED = (
    Step(1, "baseline", 75.3, (78.9, 71.9, 73.7, 68.3, 91.1, 67.8)),
    Step(2, "progressive resolution", 75.1, (78.9, 71.8, 72.4, 69.9, 90.5, 67.0)),
    Step(3, "twice the batch and samples", 76.2, (79.5, 72.8, 74.1, 71.8, 91.0, 68.1)),
    Step(4, "LAMB", 76.9, (79.9, 73.3, 74.3, 73.5, 91.5, 68.6)),
    Step(5, "a stage of higher resolution", 78.3, (80.4, 73.8, 75.6, 79.2, 92.0, 68.8)),
    Step(6, "2D RoPE", 79.2, (80.7, 74.1, 77.4, 80.9, 92.7, 69.4)),
    Step(7, "attention pooling", 80.1, (81.0, 74.8, 78.4, 82.9, 93.4, 69.9)),
    Step(8, "data augmentation", 80.8, (81.1, 75.2, 80.8, 83.1, 93.5, 71.2)),
    Step(9, "mask regularisation", 80.9, (81.3, 75.3, 80.9, 82.8, 93.8, 71.2)),
)
NUMBERS = tuple(step.number for step in PUBLISHED)
MOST = 1000  # numbers in a range of the command line


def config_of(recipe: str, step: int, seed: int = 0, changes: Sequence[str] = ()) -> TrainConfig:
    """A recipe at one of the nine steps, not yet resolved.

    Raises:
        ConfigError: a step that is none, or a recipe that cannot be.
    """
    if step not in NUMBERS:
        raise ConfigError(f"step {step}: there are steps {NUMBERS[0]} to {NUMBERS[-1]}")
    switches = {name: number <= step for number, name in enumerate(STEPS, start=2)}
    return changed(replace(read_recipe(recipe, changes), seed=seed), {"steps": switches}, "steps")


@dataclass(frozen=True)
class Budget:
    """What a step costs."""

    sizes: tuple[int, ...]  # pixels, of each stage
    samples: tuple[int, ...]  # of each stage
    batch: int
    steps: int  # of the optimiser
    flops: float  # model FLOPs, forward and backward


def budget(config: TrainConfig) -> Budget:
    """The cost of a configuration, from shapes."""
    config = resolve(config)
    batch, stages = config.data.batch_size, config.stages
    flops = sum(s.samples // batch * batch * flops_per_sample(config, s.image_size) for s in stages)
    sizes, samples = tuple(s.image_size for s in stages), tuple(s.samples for s in stages)
    return Budget(sizes, samples, batch, total_steps(config), flops)


def listed(found: Sequence[int]) -> str:
    """Numbers as `numbers` reads them: 1-3,7."""
    parts: list[list[int]] = []
    for number in sorted(set(found)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def numbers(text: str, known: Sequence[int] | None, option: str) -> tuple[int, ...]:
    """ "1-3,7" as (1, 2, 3, 7), each once, in order.

    Args:
        known: what is allowed; None allows every number from 0 on.

    Raises:
        ConfigError: anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        try:
            ends = int(first), int(last or first)
        except ValueError as error:
            raise ConfigError(f"{option} {text!r}: expected numbers such as 1-9 or 0,2,5") from error
        if ends[0] > ends[1]:
            raise ConfigError(f"{option} {text!r}: {part.strip()!r} runs backwards")
        if ends[1] - ends[0] >= MOST:
            raise ConfigError(f"{option} {text!r}: {part.strip()!r} is more than {MOST} numbers")
        found.update(range(ends[0], ends[1] + 1))
    if known is not None and (wrong := sorted(found - set(known))):
        raise ConfigError(f"{option} {text!r}: there is no {wrong[0]}; expected {known[0]} to {known[-1]}")
    return tuple(sorted(found))
