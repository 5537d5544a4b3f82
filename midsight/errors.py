"""Everything midsight raises on purpose.

    MidsightError
    ├── ConfigError (ValueError)            a configuration value that cannot be
    │   └── UnknownModelError               a model name that does not exist; names the nearest ones
    ├── CheckpointError                     a weight file that is missing, cut, foreign or of another configuration
    ├── MediaError                          a picture or video that cannot be read, or is beyond a limit
    ├── InputError (ValueError)             an argument of the wrong kind: labels, texts, sources
    ├── ShapeError (ValueError)             a tensor of the wrong shape or dtype
    ├── LayerError (IndexError)             a layer that the tower does not have
    ├── TrainingError                       a training run that cannot go on: a NaN loss, another run's state
    ├── ExportError                         a model that cannot be exported, or whose export gives other numbers
    ├── OutputError                         a result that could not be written
    └── MissingDependencyError (ImportError)    an optional package that is not installed

Every message names the file or value, what was found, what was expected and what to do.
"""


class MidsightError(Exception):
    """Base of all errors that midsight raises on purpose."""


class ConfigError(MidsightError, ValueError):
    """A configuration value that cannot be."""


class UnknownModelError(ConfigError):
    """A model name that does not exist."""


class CheckpointError(MidsightError):
    """A weight file that is missing, cut, foreign, or belongs to another configuration."""


class MediaError(MidsightError):
    """A picture or video that cannot be read, or is beyond a limit."""


class InputError(MidsightError, ValueError):
    """An argument of the wrong kind: empty labels, a source that is neither path nor pixels."""


class ShapeError(MidsightError, ValueError):
    """A tensor of the wrong shape or dtype."""


class LayerError(MidsightError, IndexError):
    """A layer index outside the tower."""


class TrainingError(MidsightError):
    """A training run that cannot go on; the last good state is kept."""


class ExportError(MidsightError):
    """A model that cannot be exported, or whose exported form gives other numbers; nothing is left behind."""


class OutputError(MidsightError):
    """A result that could not be written; what was there before is intact."""


class MissingDependencyError(MidsightError, ImportError):
    """An optional package that is not installed; the message names the extra that brings it."""
