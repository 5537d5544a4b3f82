"""The recipe of the embedded model: all settings in one place, read from a TOML file that holds what differs.

What the vision tower is trained with stands in a recipe of its own, `core_embedded.toml`, as for any other model.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from midsight.data.crops import Mixture
from midsight.errors import ConfigError
from midsight.train.config import changed
from midsight.train.embedded.head import HeadConfig
from midsight.train.embedded.texts import TextConfig
from midsight.train.embedded.tower import TowerConfig
from midsight.train.embedded.words import WordsConfig

SHIPPED = Path(__file__).parent.parent / "recipes" / "embedded.toml"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights before the vision tower is trained, beside the packages' versions."""

    seed: int = 0
    samples: int = 40_000  # training pictures
    phrases: int = 60_000  # put-together texts for the text tower
    mixture: Mixture = field(default_factory=Mixture)
    words: WordsConfig = field(default_factory=WordsConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tower: TowerConfig = field(default_factory=TowerConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    vision: bool = False  # train the vision tower's blocks behind the head, by core_embedded.toml


def read_recipe(path: Path) -> Recipe:
    """A recipe file.

    Raises:
        ConfigError: the file cannot be read, or holds a key that no setting has; the nearest one is named.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable recipe: {error}") from error
    return changed(Recipe(), values, str(path))
