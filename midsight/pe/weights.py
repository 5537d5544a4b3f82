"""From a checkpoint, wherever and in whatever layout, to the state dict of a tower or a pair."""

from pathlib import Path

from torch import Tensor

from midsight.checkpoints import check, read_state_dict
from midsight.configs import PEConfig, PETextConfig
from midsight.errors import ConfigError

VISUAL = "visual."


def load_tower(source: str | Path, config: PEConfig) -> dict[str, Tensor]:
    """The vision tower's tensors, memory-mapped where the file allows; a pair's text tower is left out.

    Raises:
        CheckpointError: missing, cut, foreign, or of another configuration.
    """
    weights = read_state_dict(source)
    if any(key.startswith(VISUAL) for key in weights):
        weights = {key.removeprefix(VISUAL): value for key, value in weights.items() if key.startswith(VISUAL)}
    check(weights, config, None, str(source))
    return weights


def load_pair(source: str | Path, vision: PEConfig, text: PETextConfig) -> dict[str, Tensor]:
    """Both towers' tensors and `logit_scale`, memory-mapped where the file allows.

    Raises:
        CheckpointError: missing, cut, foreign, or of another configuration.
    """
    weights = read_state_dict(source)
    check(weights, vision, text, str(source))
    return weights


def source_of(name: object, checkpoint_path: str | Path | None) -> str | Path:
    """Where pretrained weights come from: the path given, else the published name.

    Raises:
        ConfigError: a configuration of one's own without a path.
    """
    if checkpoint_path is not None:
        return checkpoint_path
    if isinstance(name, str):
        return name
    raise ConfigError("pretrained=True with a configuration of your own needs checkpoint_path=")
