"""What the training loop needs of its data; `midsight.train.core.DataSource` gives it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from midsight.train.distributed import World


class Batch(Protocol):
    """What the loop needs of a `midsight.data` batch."""

    @property
    def images(self) -> Tensor | None: ...  # float32 (B, 3, S, S)
    @property
    def videos(self) -> Tensor | None: ...  # float32 (B, T, 3, S, S)
    @property
    def texts(self) -> Tensor: ...  # int64 (B, L)
    @property
    def keys(self) -> Any: ...  # names of the samples, for messages
    @property
    def captions(self) -> Any: ...  # texts that say which rows mean the same, where `loss.same_text` asks for it


class Batches(Protocol):
    """Batches of one process, without end."""

    def __iter__(self) -> Iterator[Batch]: ...
    def state(self) -> dict[str, Any]:
        """Where the stream stands behind the last batch that was taken."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Samples that were left out so far, by reason."""


class Source(Protocol):
    """The data of a run."""

    @property
    def fingerprint(self) -> str:
        """Another one for other data."""

    def open(self, image_size: int, rows: int, here: World, resume: dict[str, Any] | None) -> Batches:
        """The batches of a process at a resolution, from the beginning or from a state."""
