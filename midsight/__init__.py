"""Perception Encoder for Python. `import midsight` is quick and brings no torch; each name loads on first use.

import midsight

model = midsight.load()  # the small embedded model; midsight.load("PE-Core-L14-336") for a published one
model.classify("cat.jpg", ["a cat", "a dog"])

from midsight import pe, transforms  # the published names
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midsight import api, checkpoints, configs, errors, evaluate, images, pe, tasks, transforms, video
    from midsight.api import Outcome, Perception, load
    from midsight.errors import MidsightError
    from midsight.tasks.zero_shot import Prediction

    __version__: str

_MODULES = ("api", "checkpoints", "configs", "errors", "evaluate", "images", "pe", "tasks", "transforms", "video")
_NAMES = {
    "load": "midsight.api",
    "Perception": "midsight.api",
    "Outcome": "midsight.api",
    "Prediction": "midsight.tasks.zero_shot",
    "MidsightError": "midsight.errors",
}

__all__ = [
    "MidsightError",
    "Outcome",
    "Perception",
    "Prediction",
    "__version__",
    "api",
    "checkpoints",
    "configs",
    "errors",
    "evaluate",
    "images",
    "load",
    "pe",
    "tasks",
    "transforms",
    "video",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _import(f"midsight.{name}")
    if name in _NAMES:
        value = getattr(_import(_NAMES[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'midsight' has no attribute {name!r}")
    globals()[name] = value  # the next use does not come here
    return value


def _import(module: str) -> Any:
    from midsight.imports import without_gc

    with without_gc():
        return import_module(module)


def _version() -> str:
    """The installed version; a source tree that is only on the path has none to read."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("midsight")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
