"""A question to an index: words, pictures, videos and earlier hits, mixed, with filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.library.stores.base import Filter

if TYPE_CHECKING:
    from midsight.api import Perception

Array = npt.NDArray[np.float32]

TOP = 10
_MOST = 10_000  # hits of one answer


@dataclass(frozen=True)
class Query:
    """What is looked for.

    The embeddings of all examples are added with their weights, those of the negatives are taken away, and the sum is
    brought to length 1.

    Attributes:
        texts: words, as they are.
        images, videos: anything that `Perception.embed_images` and `embed_videos` take.
        rows: ids of hits: "more like this", which needs no model.
        weights: one for each of texts, images, videos and rows, in that order; all 1 if not given.
        without_texts, without_images: what the hits should not be like.
        where: which rows count.
        words: what the text of pages is searched for; None takes the texts, "" searches no text.
        top: most hits.
        exact: compare with every row, even where there is an index.
    """

    texts: tuple[str, ...] = ()
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    rows: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    without_texts: tuple[str, ...] = ()
    without_images: tuple[Any, ...] = ()
    where: Filter = Filter()
    words: str | None = None
    top: int = TOP
    exact: bool = False

    def __post_init__(self) -> None:
        for name in ("texts", "images", "videos", "rows", "without_texts", "without_images"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"query: {name} must be a tuple, got one text {getattr(self, name)!r}")
        if any(not text.strip() for text in (*self.texts, *self.without_texts)):
            raise InputError("query: an empty text; say what to look for")
        if self.weights and len(self.weights) != self.examples:
            raise InputError(f"query: {len(self.weights)} weights for {self.examples} examples; give one for each")
        if not all(np.isfinite(self.weights)):
            raise InputError(f"query: weights must be numbers, got {self.weights}")
        if not 1 <= self.top <= _MOST:
            raise InputError(f"query: top must be from 1 to {_MOST}, got {self.top}")
        if not self.examples and not self.words:
            raise InputError("query: nothing to look for; give words, a picture, a video or a hit")

    @property
    def examples(self) -> int:
        """How many positive examples there are."""
        return len(self.texts) + len(self.images) + len(self.videos) + len(self.rows)

    @property
    def needs_model(self) -> bool:
        """Whether something has to be embedded."""
        return bool(self.texts or self.images or self.videos or self.without_texts or self.without_images)

    @property
    def full_text(self) -> str:
        """What the text of pages is searched for; empty for nothing."""
        return " ".join(self.texts) if self.words is None else self.words


@dataclass(frozen=True)
class Examples:
    """What a model makes of a question's words, pictures and videos.

    Attributes:
        name, identity: of the model.
        positive, negative: embeddings float32 (D,), in the order of the question.
    """

    name: str
    identity: str
    positive: list[Array]
    negative: list[Array]


def embed_examples(query: Query, model: "Perception") -> Examples:
    """Embeds what has to be embedded of a question.

    Raises:
        InputError: words for a model without texts.
        MediaError: a picture or video that cannot be read.
    """
    positive = _embed(query.texts, query.images, query.videos, model)
    return Examples(model.name, model.identity, positive, _embed(query.without_texts, query.without_images, (), model))


def query_vector(query: Query, examples: Examples | None, stored: Sequence[Array]) -> Array | None:
    """The embedding that is looked for, float32 (D,), of length 1; None where only text is searched.

    Args:
        examples: None where nothing has to be embedded.
        stored: embeddings of `query.rows`.

    Raises:
        InputError: examples that cancel each other.
    """
    if not query.examples:
        return None
    positive, negative = ([], []) if examples is None else (examples.positive, examples.negative)
    return mixed([*positive, *stored], query.weights, negative)


def mixed(positive: Sequence[Array], weights: Sequence[float], negative: Sequence[Array]) -> Array:
    """Embeddings added with their weights (1 where there are none), negatives taken away; float32 (D,), of length 1.

    Raises:
        InputError: they cancel each other.
    """
    every = [*(weights or [1.0] * len(positive)), *[-1.0] * len(negative)]
    total = np.asarray(every) @ np.stack([*positive, *negative]).astype(np.float64)  # D
    length = float(np.linalg.norm(total))
    if not length > 1e-6:
        raise InputError("query: its examples and negatives cancel each other; nothing is left to look for")
    vector: Array = (total / length).astype(np.float32)
    return vector


def _embed(texts: Sequence[str], images: Sequence[Any], videos: Sequence[Any], model: "Perception") -> list[Array]:
    found: list[Array] = [*model.embed_texts(texts)] if texts else []
    found += [*model.embed_images(images)] if images else []
    return found + ([*model.embed_videos(videos)] if videos else [])
