"""midsight's own layout, for towers that transformers' PerceptionLM has no place for: a packaged stem.

`config.json` holds the towers as midsight names them; weights lie under `vision_model.`, `vision_projector.` and
`language_model.`.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from midsight.checkpoints.reader import read_tensors
from midsight.checkpoints.renames import StateDict, under
from midsight.errors import CheckpointError
from midsight.plm.config import PLMConfig
from midsight.plm.parts import Parts, plm_config, tower_config

FORMAT = "midsight-plm-1"
ADAPTED = "midsight-plm-adapted-1"  # see `adapted`
PARTS = ("vision_model.", "vision_projector.", "language_model.")


def read(folder: Path, config: Mapping[str, Any]) -> Parts:
    """Configuration and weights of a folder that `join` and `describe` wrote."""
    found = config_of(config)
    tensors = read_tensors(folder)
    tower, projector, language = (under(prefix, tensors) for prefix in PARTS)
    return Parts(found, tower, projector, language)


def config_of(config: Mapping[str, Any]) -> PLMConfig:
    """The configuration alone."""
    values = {field.name: config[field.name] for field in fields(PLMConfig) if field.name in config}
    if not isinstance(values.get("vision"), dict):
        raise CheckpointError("config.json: expected the tower under 'vision'")
    values["vision"] = tower_config(values["vision"])
    values["stop_token_ids"] = tuple(values.get("stop_token_ids", ()))
    return plm_config(values)


def join(parts: Parts) -> StateDict:
    """All weights, each part under its prefix."""
    weights = parts.vision_model, parts.vision_projector, parts.language_model
    return {prefix + key: value for prefix, some in zip(PARTS, weights, strict=True) for key, value in some.items()}


def describe(config: PLMConfig) -> dict[str, dict[str, Any]]:
    """The configuration files of a folder, by name."""
    return {"config.json": {"format": FORMAT, **asdict(config)}}
