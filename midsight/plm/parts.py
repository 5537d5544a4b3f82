"""A PLM taken apart: what every layout is read into and written from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from midsight.checkpoints.renames import StateDict
from midsight.configs import PEConfig
from midsight.errors import CheckpointError, ConfigError
from midsight.plm.config import PLMConfig
from midsight.plm.tokenizer import TextCodec


@dataclass(frozen=True)
class Parts:
    """Configuration and weights; names are published (tower, projector) and transformers' (language model)."""

    config: PLMConfig
    vision_model: Mapping[str, Tensor]
    vision_projector: Mapping[str, Tensor]  # projector.{0,2}.{weight,bias}
    language_model: StateDict  # without `lm_head.weight` where it is tied
    tokenizer: TextCodec | None = None  # where it does not lie in the folder


def plm_config(values: Mapping[str, Any]) -> PLMConfig:
    """A configuration whose errors are those of a checkpoint."""
    try:
        return PLMConfig(**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(str(error)) from error


def tower_config(values: Mapping[str, Any]) -> PEConfig:
    """A tower's configuration whose errors are those of a checkpoint."""
    try:
        return PEConfig(**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"the vision tower's configuration: {error}") from error
