"""The recipe of the embedded model: all settings in one place, read from a TOML file that holds what differs."""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midsight.data.crops import Mixture
from midsight.errors import ConfigError
from midsight.train.embedded.space import SpaceConfig
from midsight.train.embedded.texts import TextConfig
from midsight.train.embedded.tower import TowerConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the packages' versions."""

    seed: int = 0
    samples: int = 36_000  # training pictures whose trunk maps are kept
    phrases: int = 30_000  # put-together texts for the text tower
    mixture: Mixture = field(default_factory=Mixture)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tower: TowerConfig = field(default_factory=TowerConfig)


def read_recipe(path: Path) -> Recipe:
    """A recipe file.

    Raises:
        ConfigError: the file cannot be read, or holds a key that no setting has; the nearest one is named.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable recipe: {error}") from error
    return _changed(Recipe(), values, str(path))


def _changed(config: Any, values: dict[str, Any], where: str) -> Any:
    """The dataclass with the values of a table put in, tables inside it too."""
    known = {f.name for f in dataclasses.fields(config)}
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: there is no setting {key!r}{hint}")
    changes = {
        key: _changed(getattr(config, key), value, f"{where}, [{key}]") if isinstance(value, dict) else value
        for key, value in values.items()
    }
    return dataclasses.replace(config, **changes)
