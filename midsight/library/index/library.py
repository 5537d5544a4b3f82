"""An index that is asked: words and examples in, hits out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.files import StrPath
from midsight.library.index.filetable import FileTable
from midsight.library.index.generation import address
from midsight.library.index.manifest import FILES, MANIFEST, NAME, About, Manifest, read_about, read_manifest
from midsight.library.index.query import Examples, Query, embed_examples, query_vector
from midsight.library.stores import EVERYTHING, Filter, Match, Store, open_store

if TYPE_CHECKING:
    from midsight.api import Perception

Array = npt.NDArray[np.float32]

_RANKS = 60  # of reciprocal rank fusion: how slowly a hit's part falls with its rank (Cormack et al., 2009)
_DEEPER = 5  # times `top` that either search gives before they are put together
_SNIPPET = 200  # letters of a page that a hit shows


class Identified(Protocol):
    """What is known of a model that may not be loaded."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def identity(self) -> str:
        """Hash of weights, preprocessing and layer."""
        ...


@dataclass(frozen=True)
class Hit:
    """Something that was found.

    Attributes:
        id: of the row; for "more like this".
        path: below the root, as text.
        file: the file itself.
        kind: image, video or page.
        start, end: seconds, of a stretch of a video.
        page: from 1, of a document.
        score: what the hits are sorted by: the similarity, or where text was searched as well a mixture of both ranks.
        similarity: cosine of the embedding and the question; None where only text was searched.
        text: the beginning of the page's text.
        width, height: pixels.
        size: bytes of the file.
        mtime: seconds since 1970.
        tags: words that people gave the file.
    """

    id: str
    path: str
    file: Path
    kind: str
    start: float | None
    end: float | None
    page: int | None
    score: float
    similarity: float | None
    text: str | None
    width: int
    height: int
    size: int
    mtime: float
    tags: tuple[str, ...]


class Library:
    """An index opened for questions. It sees what other processes commit, and re-embedding when it is whole.

    One thread at a time may ask; several threads open one each, which costs little.

    Attributes:
        folder: the index.
    """

    def __init__(self, folder: StrPath = ".") -> None:
        """Opens an index.

        Args:
            folder: the index, the folder that was indexed, or one inside or right above it; see `find_index`.

        Raises:
            InputError: no index, a damaged one, or one of a newer version.
            MissingDependencyError: lancedb or pyarrow is not installed.
        """
        self.folder = find_index(Path(folder))
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the files."""
        self.store.close()
        self.files.close()

    @property
    def root(self) -> Path:
        """The folder that was indexed."""
        return self.manifest.root

    def refresh(self) -> None:
        """Goes over to the newest generation, if there is another one; costs one look at the folder."""
        if self._stamp != _stamp(self.folder):
            self.close()
            self._open()

    def open_model(self, device: str = "auto", dtype: str = "auto", threads: int | None = None) -> "Perception":
        """The model that the index was made with.

        Raises:
            InputError: what is found under its name is another model now.
            MidsightError: it cannot be loaded.
        """
        return open_model(self.manifest, device, dtype, threads)

    def check(self, model: "Perception | Identified") -> None:
        """Whether embeddings of this model may be compared with those of the index.

        Raises:
            InputError: it is another model, even if of the same size.
        """
        check_model(self.manifest, self.about, model)

    def search(self, query: Query, model: "Perception | Examples | None" = None) -> list[Hit]:
        """The best hits, best first.

        Where words are looked for and pages hold text, hits by meaning and hits by words are put together by
        reciprocal rank fusion.

        Args:
            model: the model that the index was made with, or what it has made of the question already; not needed
                where `query.needs_model` is False.

        Raises:
            InputError: another model, or a question that cannot be.
            MediaError: a picture or video of the question that cannot be read.
        """
        self.refresh()
        examples = self._examples(query, model) if query.needs_model else None
        return self.search_vector(query, query_vector(query, examples, [self.embedding(row) for row in query.rows]))

    def search_vector(self, query: Query, vector: Array | None) -> list[Hit]:
        """As `search`, for a question whose examples are embedded already.

        Args:
            vector: float32 (D,), of length 1; None where only text is searched.
        """
        found = [] if vector is None else self._nearest(query, vector)
        texts = self._by_words(query, deep=vector is not None) if query.full_text else []
        if not texts:
            return [self._hit(match, match.score, match.score) for match in found[: query.top]]
        return self._fused(found, texts, vector, query.top)

    def embedding(self, row: str) -> Array:
        """The embedding of a row, float32 (D,).

        Raises:
            InputError: there is no such row.
        """
        return self._row(row)[1]

    def hit(self, row: str) -> Hit:
        """One row by its id, with score 1.

        Raises:
            InputError: there is no such row.
        """
        return self._hit(self._row(row)[0], 1.0, 1.0)

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many rows there are."""
        return self.store.count(where)

    def file_of(self, row: Mapping[str, Any]) -> Path:
        """The file of a row, which has at least the columns `path` and `file`."""
        if "\\x" not in row["path"]:
            return self.root / str(row["path"])
        record = self.files.by_id(row["file"])  # a name that is not UTF-8
        return self.root / (row["path"] if record is None else record.name)

    def _open(self) -> None:
        self._stamp = _stamp(self.folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self.about = read_about(self.manifest.current)
        self.store: Store = open_store(address(self.manifest.current, self.about), self.about.dim)
        self.files = FileTable(self.manifest.current / FILES)

    def _examples(self, query: Query, model: "Perception | Examples | None") -> Examples:
        if model is None:
            raise InputError("the question has to be embedded; give the model: library.open_model()")
        self.check(model)
        return model if isinstance(model, Examples) else embed_examples(query, model)

    def _row(self, identifier: str) -> tuple[Match, Array]:
        found = self.store.row(identifier)
        if found is None:
            raise InputError(f"{self.folder}: no row has the id {identifier!r}; it may have been removed")
        return found

    def _nearest(self, query: Query, vector: Array) -> list[Match]:
        own = set(query.rows)
        top = query.top * (_DEEPER if query.full_text else 1) + len(own)
        found = self.store.search(vector, top, query.where, exact=query.exact)
        return [match for match in found if match.row["id"] not in own]

    def _by_words(self, query: Query, deep: bool) -> list[Match]:
        return self.store.search_text(query.full_text, query.top * (_DEEPER if deep else 1), query.where)

    def _fused(self, found: Sequence[Match], texts: Sequence[Match], vector: Array | None, top: int) -> list[Hit]:
        if vector is None:
            return [self._hit(match, match.score, None) for match in texts[:top]]
        rows = {match.row["id"]: match for match in (*texts, *found)}
        scores = dict.fromkeys(rows, 0.0)
        for matches in (found, texts):
            for rank, match in enumerate(matches, start=1):
                scores[match.row["id"]] += 1 / (_RANKS + rank)
        similar = {match.row["id"]: match.score for match in found}
        best = sorted(rows, key=lambda row: -scores[row])[:top]
        for row in best:
            if row not in similar:
                similar[row] = float(self.embedding(row) @ vector)
        return [self._hit(rows[row], scores[row], similar[row]) for row in best]

    def _hit(self, match: Match, score: float, similarity: float | None) -> Hit:
        row = match.row
        text = " ".join(row["text"].split())[:_SNIPPET] if row["text"] else None
        plain: dict[str, Any] = {
            name: row[name]
            for name in ("id", "path", "kind", "start", "end", "page", "width", "height", "size", "mtime")
        }
        tags = tuple(row["tags"] or ())
        return Hit(file=self.file_of(row), score=score, similarity=similarity, text=text, tags=tags, **plain)


def open_model(
    manifest: Manifest, device: str = "auto", dtype: str = "auto", threads: int | None = None
) -> "Perception":
    """As `Library.open_model`, for an index that is not opened."""
    import midsight

    about = read_about(manifest.current)
    model = midsight.load(
        about.load, device, dtype, about.layer,  # type: ignore[arg-type]  # load says what is allowed
        revision=about.revision, image_size=about.image_size, threads=threads,
    )  # fmt: skip
    check_model(manifest, about, model)
    return model


def check_model(manifest: Manifest, about: About, model: "Perception | Identified") -> None:
    """As `Library.check`, for an index that is not opened."""
    if model.identity != about.identity:
        raise InputError(
            f"{manifest.folder}: was made with {about.model} ({about.identity[:12]}), and {model.name} "
            f"({model.identity[:12]}) is another model, whose embeddings mean something else. Ask with the index's "
            f"own model, or embed anew: midsight index {manifest.root} --reembed --model {model.name}"
        )


def find_index(place: Path) -> Path:
    """The index that a folder means: itself, the one inside it or a folder above it, or the only one right below it.

    Raises:
        InputError: there is none, or more than one.
    """
    for folder in (place, *(p / NAME for p in (place, *place.absolute().parents))):
        if (folder / MANIFEST).is_file():
            return folder
    try:
        below = sorted(path.parent for path in place.glob(f"*/{NAME}/{MANIFEST}"))
    except OSError:
        below = []
    if len(below) == 1:
        return below[0]
    if below:
        names = ", ".join(os.fspath(path.parent) for path in below)
        raise InputError(f"{place}: several folders in it are indexed ({names}). Name one: --index {below[0].parent}")
    raise InputError(f"{place}: no index is there. Make one: midsight index DIR")


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        state = (folder / MANIFEST).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino
