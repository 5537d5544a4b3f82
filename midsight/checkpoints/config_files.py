"""The configuration files that lie beside weights: midsight's own, timm's and open_clip's."""

import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from midsight.checkpoints import open_clip, timm
from midsight.configs import PEConfig, PETextConfig, PreprocessConfig, find_model
from midsight.errors import CheckpointError, ConfigError

FORMAT, VERSION = "midsight", 1
Config = TypeVar("Config", PEConfig, PETextConfig, PreprocessConfig)


@dataclass(frozen=True)
class Described:
    """What a configuration file says."""

    name: str | None
    vision: PEConfig
    text: PETextConfig | None
    preprocess: PreprocessConfig
    metadata: dict[str, Any]


def describe_config(
    name: str | None,
    vision: PEConfig,
    text: PETextConfig | None,
    preprocess: PreprocessConfig,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `config.json` says."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "vision": asdict(vision),
        "text": asdict(text) if text is not None else None,
        "preprocess": asdict(preprocess),
        "metadata": dict(metadata or {}),
    }


def digest(config: Mapping[str, Any]) -> str:
    """A short digest of towers and preprocessing, which the weight files carry."""
    parts = json.dumps([config.get(key) for key in ("vision", "text", "preprocess")], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether one of the three programs wrote this; PerceptionLM's configuration, for one, is another's."""
    own, towers, architecture = config.get("format"), config.get("model_cfg"), config.get("architecture")
    return own == FORMAT or isinstance(towers, dict) or isinstance(architecture, str)


def read_config(config: Mapping[str, Any]) -> Described:
    """A configuration file's content, whichever of the three programs wrote it.

    Raises:
        CheckpointError: another program's, or fields that are missing, unknown or cannot be.
    """
    if config.get("format") == FORMAT:
        return _read_own(config)
    if isinstance(config.get("model_cfg"), dict):
        return _read_open_clip(config)
    if isinstance(config.get("architecture"), str):
        return _read_timm(config)
    raise CheckpointError(
        "not a configuration of midsight, timm or open_clip; expected format, architecture or model_cfg"
    )


def _read_own(config: Mapping[str, Any]) -> Described:
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"written in version {config.get('version')!r} of the layout, but this midsight reads {VERSION}; update it"
        )
    name, metadata = config.get("name"), config.get("metadata") or {}
    if not isinstance(name, str | None) or not isinstance(metadata, dict):
        raise CheckpointError("name must be a text or null, and metadata an object")
    text = config.get("text")
    return Described(
        name,
        _build(PEConfig, config.get("vision"), "vision"),
        None if text is None else _build(PETextConfig, text, "text"),
        _build(PreprocessConfig, config.get("preprocess"), "preprocess"),
        metadata,
    )


def _build(kind: type[Config], values: Any, what: str) -> Config:
    """A configuration from JSON, its field names and types checked."""
    if not isinstance(values, dict):
        raise CheckpointError(f"{what} is missing or no object")
    known = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in known:
            raise CheckpointError(f"{what} has the unknown field {key[:60]!r}; written by a newer midsight? Update it")
        if not _fits(value, known[key]):
            raise CheckpointError(f"{what}.{key} is {str(value)[:60]!r}, expected {known[key]}")
    try:
        return kind(**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{what}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in options
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is tuple:
        return isinstance(value, list | tuple) and len(value) == 3 and all(_fits(v, float) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _read_timm(config: Mapping[str, Any]) -> Described:
    """timm's `config.json`: size and normalisation are the file's, resizing the published one (timm says bicubic)."""
    given = config.get("pretrained_cfg")
    given = given if isinstance(given, dict) else {}
    tagged = f"{config['architecture']}.{given.get('tag') or 'fb'}"
    names = [name for name, known in timm.NAMES.items() if known == tagged]
    names = names or [name for name, known in timm.NAMES.items() if known.partition(".")[0] == config["architecture"]]
    if not names:
        raise CheckpointError(f"timm's architecture {str(config['architecture'])[:60]!r} is no Perception Encoder")
    model = find_model(names[0])
    size = given.get("input_size")
    side = size[-1] if isinstance(size, list) and len(size) == 3 else model.vision.image_size
    vision = _build(PEConfig, asdict(model.vision) | {"image_size": side}, "pretrained_cfg")
    return Described(model.name, vision, None, _preprocess(side, given), {})


def _read_open_clip(config: Mapping[str, Any]) -> Described:
    """open_clip's `open_clip_config.json`: the trunk's timm name and the text tower's size name the model."""
    towers, given = config["model_cfg"], config.get("preprocess_cfg")
    trunk = towers.get("vision_cfg", {}).get("timm_model_name") if isinstance(towers.get("vision_cfg"), dict) else None
    names = [name for name in open_clip.NAMES if timm.NAMES[name].partition(".")[0] == trunk]
    if not names:
        raise CheckpointError(f"open_clip's trunk {str(trunk)[:60]!r} is no PE-Core tower of timm's")
    model = find_model(names[0])
    side = towers["vision_cfg"].get("image_size", model.vision.image_size)
    vision = _build(PEConfig, asdict(model.vision) | {"image_size": side}, "vision_cfg")
    return Described(model.name, vision, model.text, _preprocess(side, given if isinstance(given, dict) else {}), {})


def _preprocess(image_size: int, given: Mapping[str, Any]) -> PreprocessConfig:
    values = {key: given[key] for key in ("mean", "std") if given.get(key) is not None}
    if "resize_mode" in given:  # open_clip's, which says what was published; timm's crop_mode and interpolation do not
        values["resize"] = {"squash": "squash", "shortest": "center_crop"}.get(
            given["resize_mode"], given["resize_mode"]
        )
        values["interpolation"] = given.get("interpolation", "bilinear")
    return _build(PreprocessConfig, {"image_size": image_size, **values}, "preprocessing")
