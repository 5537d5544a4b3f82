"""What an evaluation asks, and who answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from midsight.evaluate.metrics.located import Box


@dataclass(frozen=True)
class Question:
    """One question of a benchmark."""

    id: str
    media: tuple[Path, ...]  # pictures or videos, maybe not there
    prompt: str  # the whole text that the model reads
    answers: tuple[str, ...]  # gold; of questions with options the text of the right one
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # what the metric needs beyond: size, box, span, part
    regions: Mapping[int, Box] | None = None  # of a video: boxes to be drawn, pixels, by frame counted from 0

    @property
    def missing(self) -> tuple[Path, ...]:
        """Media that are not there."""
        return tuple(path for path in self.media if not path.is_file())


class Answerer(Protocol):
    """A model that can be asked."""

    def answer(self, media: Sequence[Path], question: str) -> str:
        """The model's answer to a question about pictures or a video.

        Raises:
            MediaError: a file cannot be read.
            InputError: the question does not fit into the model.
        """
        ...
