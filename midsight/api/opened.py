"""A dense task ready to be called, whatever computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from midsight.checkpoints.hub import EMBEDDED_SPATIAL
from midsight.errors import InputError

R = TypeVar("R")
SHIPPED = EMBEDDED_SPATIAL / "heads"  # what comes with the package, a folder for each of segment, depth, detect


@dataclass(frozen=True)
class Opened(Generic[R]):
    """Something to call, with what a job must know of it."""

    predict: Callable[[Any], R]  # of a picture of any kind that `load_image` takes
    about: str  # for people: which model
    identity: str  # names what is computed: with another one, other results
    names: tuple[str, ...] = ()  # of all classes, by label
    category_ids: tuple[int, ...] = ()  # of all classes of a detector, by label


def shipped(command: str, instead: str) -> Path:
    """The folder of what comes with the package for a command.

    Args:
        instead: what to give where there is none.

    Raises:
        InputError: nothing comes with this version.
    """
    folder = SHIPPED / command
    if not folder.is_dir():
        raise InputError(f"no model for `midsight {command}` comes with this version; give {instead}")
    return folder
