"""Parts of files, with their pixels turned into embeddings, a batch at a time and in order."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from torch import Tensor

from midsight.api import Perception
from midsight.api.memory import within_memory
from midsight.api.perception import BATCH_SIZE, BATCH_SIZE_ELSEWHERE, Array
from midsight.library.index.decode import End, Part, Piece
from midsight.library.index.rows import Embedded

S = TypeVar("S")

NO_DIRECTION = "the encoder gives no finite embedding for it"


class Embedder:
    """A model that goes on with half the batch where memory does not suffice.

    Attributes:
        batch_size: pictures and frames encoded together, as it is now.
    """

    def __init__(self, model: Perception, batch_size: int | None = None) -> None:
        self._model = model
        self.batch_size = batch_size or BATCH_SIZE.get(model.device.type, BATCH_SIZE_ELSEWHERE)

    def embedded(self, parts: Iterable[tuple[S, Part]]) -> Iterator[tuple[S, Embedded | End | str]]:
        """Parts in order; a piece becomes `Embedded`, or a text that says why it has no embedding."""
        waiting: list[tuple[S, Part]] = []
        frames = 0
        for source, part in parts:
            waiting.append((source, part))
            frames += len(part.frames) if isinstance(part, Piece) else 0
            if max(frames, len(waiting) // 2) >= self.batch_size:
                yield from self._flush(waiting)
                waiting, frames = [], 0
        yield from self._flush(waiting)

    def _flush(self, waiting: Sequence[tuple[S, Part]]) -> Iterator[tuple[S, Embedded | End | str]]:
        found = iter(self._embed([part.frames for _, part in waiting if isinstance(part, Piece)]))
        for source, part in waiting:
            if not isinstance(part, Piece):
                yield source, part
                continue
            embedding = next(found)
            yield source, NO_DIRECTION if embedding is None else Embedded(part.place, embedding)

    def _embed(self, clips: Sequence[Tensor]) -> list[Array | None]:
        found, self.batch_size = within_memory(partial(self._model.embed_frames, clips), self.batch_size)
        return found
