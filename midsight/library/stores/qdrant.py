"""Rows in Qdrant, through its own client: a server, or its local mode in a folder or in memory.

A point's id is the row's id as a UUID, its payload the row without the embedding; the distance is the dot product. A
change takes two requests (the new points, then what is left of the old ones). A kill between them leaves rows that the
next run of the indexer replaces.
"""

import math
import re
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from midsight.errors import InputError, MidsightError, MissingDependencyError
from midsight.library.stores.base import (
    COLUMNS,
    EVERYTHING,
    Array,
    Filter,
    Match,
    check_rows,
    could_not_write,
    embeddings,
    pyarrow,
    row_schema,
)

if TYPE_CHECKING:
    import pyarrow as pa

INSTALL = "pip install 'midsight[qdrant]'"
MEMORY = ":memory:"
COLLECTION = "midsight"
PAGE = 1000  # points of one answer
_CANDIDATES = 2000  # pages of documents that a search for words ranks; Qdrant finds words but does not rank by them
_KEYWORDS = ("file", "kind", "tags", "path")
_EMBEDDING = "embedding"


class QdrantStore:
    """See `Store`.

    Args:
        where: a folder, ":memory:", or "http://host:6333/collection".
        dim: numbers of an embedding.
        create: make the collection where there is none.

    Raises:
        InputError: there is no collection, or one of other embeddings.
        MidsightError: the server does not answer.
        MissingDependencyError: qdrant-client is not installed.
    """

    def __init__(self, where: str, dim: int, *, create: bool = False) -> None:
        self._where, self._dim = where, dim
        self._remote = where.startswith(("http://", "https://"))
        self._client, self._collection = _connect(where, self._remote)
        try:
            if not self._client.collection_exists(self._collection):
                if not create:
                    raise InputError(f"{self.address}: no rows of an index are there")
                self._create()
            found = self._client.get_collection(self._collection).config.params.vectors.size
        except MidsightError:
            raise
        except Exception as error:  # the client lets through whatever its transport raises
            raise MidsightError(f"{self.address}: does not answer ({error})") from error
        if found != dim:
            raise InputError(f"{self.address}: holds embeddings of {found} numbers, expected {dim}")

    @property
    def address(self) -> str:
        """As `open_store` takes it."""
        return f"qdrant:{self._where}"

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return self._dim

    def replace(self, files: Sequence[str], rows: "pa.Table", new: Sequence[str] = ()) -> None:
        """As `Store.replace`, in two requests."""
        from qdrant_client import models

        check_rows([*files, *new], rows, self._dim)
        payloads = rows.select([name for name in COLUMNS if name != _EMBEDDING]).to_pylist()
        vectors = embeddings(rows, self._dim).tolist()
        points = [
            models.PointStruct(id=_uuid(payload["id"]), vector=vector, payload=payload)
            for payload, vector in zip(payloads, vectors, strict=True)
        ]
        old = models.Filter(must=self._conditions(Filter(files=tuple(files))))
        old.must_not = [models.HasIdCondition(has_id=[point.id for point in points])] if points else None
        try:
            if points:
                self._client.upsert(self._collection, points, wait=True)
            if files:
                self._client.delete(self._collection, models.FilterSelector(filter=old), wait=True)
        except Exception as error:
            raise could_not_write(self.address, rows.nbytes, error) from error

    def read(self, files: Sequence[str]) -> "pa.Table":
        """As `Store.read`."""
        batches = list(self.scan(COLUMNS, Filter(files=tuple(files)))) if files else []
        return pyarrow().Table.from_batches(batches, schema=row_schema(self._dim))

    def row(self, identifier: str) -> tuple[Match, Array] | None:
        """As `Store.row`."""
        if not re.fullmatch("[0-9a-f]{32}", identifier):
            return None
        found = self._client.retrieve(self._collection, [_uuid(identifier)], with_payload=True, with_vectors=True)
        return (Match(found[0].payload, 1.0), np.array(found[0].vector, np.float32)) if found else None

    def files(self) -> dict[str, int]:
        """As `Store.files`."""
        return dict(Counter(point.payload["file"] for point in self._points(EVERYTHING, ["file"])))

    def scan(self, columns: Sequence[str], where: Filter = EVERYTHING) -> Iterator["pa.RecordBatch"]:
        """As `Store.scan`."""
        schema = row_schema(self._dim)
        wanted = pyarrow().schema([schema.field(name) for name in columns])
        rows: list[Mapping[str, Any]] = []
        for point in self._points(where, [name for name in columns if name != _EMBEDDING], _EMBEDDING in columns):
            rows.append({**point.payload, _EMBEDDING: point.vector})
            if len(rows) == PAGE:
                yield pyarrow().RecordBatch.from_pylist(rows, schema=wanted)
                rows = []
        if rows:
            yield pyarrow().RecordBatch.from_pylist(rows, schema=wanted)

    def search(self, vector: Array, top: int, where: Filter = EVERYTHING, *, exact: bool = False) -> list[Match]:
        """As `Store.search`."""
        from qdrant_client import models

        point = np.asarray(vector, np.float32).tolist()
        how = models.SearchParams(exact=exact) if self._remote else None  # the local mode is always exact
        found = self._client.query_points(
            self._collection, point, limit=top, query_filter=self._filter(where), search_params=how, with_payload=True
        )
        return [Match(point.payload, float(point.score)) for point in found.points]

    def search_text(self, words: str, top: int, where: Filter = EVERYTHING) -> list[Match]:
        """As `Store.search_text`; ranked here, by how many of the words a page has and how rare they are."""
        from qdrant_client import models

        asked = list(dict.fromkeys(re.findall(r"\w+", words.lower())))
        if not asked:
            return []
        condition = models.Filter(
            should=[models.FieldCondition(key="text", match=models.MatchText(text=w)) for w in asked]
        )
        points = self._points(where, True, extra=condition, most=_CANDIDATES)
        rows = [(point.payload, set(re.findall(r"\w+", point.payload["text"].lower()))) for point in points]
        rarity = {word: math.log(1 + len(rows) / (1 + sum(word in text for _, text in rows))) for word in asked}
        scored = [Match(row, sum(rarity[word] for word in asked if word in text)) for row, text in rows]
        return sorted((match for match in scored if match.score > 0), key=lambda match: -match.score)[:top]

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        return int(self._client.count(self._collection, count_filter=self._filter(where), exact=True).count)

    def optimize(self) -> None:
        """Nothing: Qdrant does it by itself."""

    def has_index(self) -> bool:
        """As `Store.has_index`; a server builds its own once there are enough rows."""
        return self._remote and bool(self._client.get_collection(self._collection).indexed_vectors_count)

    def drop(self) -> None:
        """As `Store.drop`."""
        self._client.delete_collection(self._collection)

    def close(self) -> None:
        """Lets go of the connection, or of the folder's lock."""
        self._client.close()

    def _create(self) -> None:
        from qdrant_client import models

        vectors = models.VectorParams(size=self._dim, distance=models.Distance.DOT)
        self._client.create_collection(self._collection, vectors_config=vectors)
        if not self._remote:
            return  # the local mode has no indices
        kinds = dict.fromkeys(_KEYWORDS, models.PayloadSchemaType.KEYWORD)
        numbers = {"mtime": models.PayloadSchemaType.FLOAT, "size": models.PayloadSchemaType.INTEGER}
        for name, kind in {**kinds, **numbers, "text": models.PayloadSchemaType.TEXT}.items():
            self._client.create_payload_index(self._collection, name, field_schema=kind)

    def _points(
        self, where: Filter, payload: Any, vectors: bool = False, extra: Any = None, most: int | None = None
    ) -> Iterator[Any]:
        """Points that fit, page by page."""
        condition, offset, given = self._filter(where), None, 0
        if extra is not None:
            from qdrant_client import models

            condition = extra if condition is None else models.Filter(must=[condition, extra])
        while True:
            page, offset = self._client.scroll(
                self._collection, scroll_filter=condition, limit=PAGE, offset=offset, with_payload=payload,
                with_vectors=vectors,
            )  # fmt: skip
            yield from page
            given += len(page)
            if offset is None or (most is not None and given >= most):
                return

    def _filter(self, where: Filter) -> Any:
        from qdrant_client import models

        return models.Filter(must=self._conditions(where)) if where else None

    def _conditions(self, where: Filter) -> list[Any]:
        from qdrant_client import models

        def any_of(key: str, values: Sequence[str]) -> Any:
            return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))

        found = [any_of(key, values) for key, values in (("file", where.files), ("kind", where.kinds)) if values]
        found += [models.FieldCondition(key="tags", match=models.MatchValue(value=tag)) for tag in where.tags]
        times = models.Range(gte=where.after, lt=where.before)
        sizes = models.Range(gte=where.min_bytes, lte=where.max_bytes)
        found += [
            models.FieldCondition(key=key, range=limits)
            for key, limits in (("mtime", times), ("size", sizes))
            if limits != models.Range()
        ]
        if (regex := where.path_regex()) is not None:  # Qdrant knows no patterns: the paths that fit are found here
            paths = {point.payload["path"] for point in self._points(EVERYTHING, ["path"])}
            found.append(any_of("path", sorted(path for path in paths if re.search(regex, path))))
        return found


def _connect(where: str, remote: bool) -> tuple[Any, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its dependencies, at import
            import qdrant_client
    except ImportError as error:
        raise MissingDependencyError(f"Qdrant needs its client, which is not installed: {INSTALL}") from error
    if remote:
        server, _, collection = where.rpartition("/")
        if server.count("/") < 2 or not collection:
            raise InputError(
                f"qdrant:{where}: expected a server and a collection, as in qdrant:http://host:6333/photos"
            )
        return qdrant_client.QdrantClient(url=server, check_compatibility=False), collection
    if where.startswith(MEMORY):
        return qdrant_client.QdrantClient(MEMORY), COLLECTION
    try:
        return qdrant_client.QdrantClient(path=where), COLLECTION
    except RuntimeError as error:  # its local mode is for one process at a time
        raise MidsightError(
            f"qdrant:{where}: is in use by another process; run a server for several. ({error})"
        ) from error


def _uuid(identifier: str) -> str:
    return str(uuid.UUID(hex=identifier))
