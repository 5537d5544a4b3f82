"""Rows in LanceDB: a folder or an object store, each change one commit that is there as a whole or not at all.

The table is called `rows`. Its distance is LanceDB's own default (squared Euclidean), which orders embeddings of length
1 as the cosine does: whoever opens the table without midsight and asks for the nearest rows gets the same ones.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from midsight.errors import InputError, MidsightError, MissingDependencyError
from midsight.imports import without_gc
from midsight.library.stores.base import (
    COLUMNS,
    EVERYTHING,
    INSTALL,
    Array,
    Filter,
    Match,
    check_rows,
    could_not_write,
    empty_rows,
    row_schema,
)

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

TABLE = "rows"
# Chosen so that `python -m benchmarks search` keeps recall@10 above 0.98 up to a million rows.
ANN_FROM = 50_000  # rows; below, every search compares with all of them
REBUILT_AT = 4  # times the rows that the index was made for
_LISTS_ROOT = 2  # lists = root of the rows / this
LEAST_PROBES, PROBED = 30, 6  # lists that a search looks into: at least so many, and one of so many
_INDEX = "nearest_"  # and the number of lists: the index's name
TEXT_INDEX_FROM = 2000  # rows with text; fewer are searched word by word without an index
KEPT = timedelta(seconds=10)  # how long a version that was replaced stays, for searches that are under way
_PLAIN = [name for name in COLUMNS if name != "embedding"]


class LanceStore:
    """See `Store`.

    Args:
        address: a folder, or an address that LanceDB opens ("s3://bucket/photos").
        dim: numbers of an embedding.
        create: make the table where there is none.

    Raises:
        InputError: there is no table, or one of other embeddings.
        OutputError: it cannot be made.
        MissingDependencyError: lancedb is not installed.
    """

    def __init__(self, address: str, dim: int, *, create: bool = False) -> None:
        self._address, self._dim = address, dim
        self._table = self._open(create)
        found = self._table.schema.field("embedding").type.list_size
        if found != dim:
            raise InputError(f"{address}: holds embeddings of {found} numbers, expected {dim}")

    @property
    def address(self) -> str:
        """The folder or address."""
        return self._address

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return self._dim

    def replace(self, files: Sequence[str], rows: "pa.Table", new: Sequence[str] = ()) -> None:
        """As `Store.replace`, in one commit."""
        check_rows([*files, *new], rows, self._dim)
        known = Filter(files=tuple(files))
        try:
            if not files or not self.count(known):
                if rows.num_rows:
                    self._table.add(rows)
            elif not rows.num_rows:
                self._table.delete(where_sql(known))
            else:
                merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(where_sql(known)).execute(rows)
        except (OSError, RuntimeError, ValueError) as error:
            raise could_not_write(self._address, rows.nbytes, error) from error

    def read(self, files: Sequence[str]) -> "pa.Table":
        """As `Store.read`."""
        query = self._table.search().where(where_sql(Filter(files=tuple(files)))).limit(None)
        return self._again(lambda: query.select(list(COLUMNS)).to_arrow()) if files else empty_rows(self._dim)

    def row(self, identifier: str) -> tuple[Match, Array] | None:
        """As `Store.row`."""
        query = self._table.search().where(f"id = {_quoted(identifier)}").limit(1).select(list(COLUMNS))
        rows = self._again(query.to_arrow).to_pylist()
        if not rows:
            return None
        return Match(rows[0], 1.0), np.array(rows[0].pop("embedding"), np.float32)

    def files(self) -> dict[str, int]:
        """As `Store.files`."""
        counts: dict[str, int] = {}
        for batch in self.scan(["file"]):
            for entry in batch.column("file").value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
        return counts

    def scan(self, columns: Sequence[str], where: Filter = EVERYTHING) -> Iterator["pa.RecordBatch"]:
        """As `Store.scan`."""
        query = self._table.search().select(list(columns)).limit(None)
        query = query.where(where_sql(where)) if where else query
        yield from query.to_batches()

    def search(
        self,
        vector: Array,
        top: int,
        where: Filter = EVERYTHING,
        *,
        exact: bool = False,
    ) -> list[Match]:
        """As `Store.search`."""

        index = None if exact else self._index_of("embedding")
        lists = None if index is None else _lists_of(index)

        def ask() -> list[dict[str, Any]]:
            query = self._table.search(np.asarray(vector, np.float32), vector_column_name="embedding").limit(top)
            query = query.where(where_sql(where), prefilter=True) if where else query
            if exact or lists is None:
                query = query.bypass_vector_index()
            else:  # a filter that leaves few rows goes on through more lists until there are enough
                query = query.minimum_nprobes(max(LEAST_PROBES, lists // PROBED)).maximum_nprobes(0)
            return query.select([*_PLAIN, "_distance"]).to_list()

        return [Match(row, 1 - row.pop("_distance") / 2) for row in self._again(ask)]

    def search_text(self, words: str, top: int, where: Filter = EVERYTHING) -> list[Match]:
        """As `Store.search_text`."""
        if not words.strip():
            return []

        def ask() -> list[dict[str, Any]]:
            query = self._table.search(words, query_type="fts", fts_columns="text").limit(top)
            query = query.where(where_sql(where), prefilter=True) if where else query
            return query.select([*_PLAIN, "_score"]).to_list()

        return [Match(row, row.pop("_score")) for row in self._again(ask)]

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        return int(self._again(lambda: self._table.count_rows(where_sql(where) if where else None)))

    def optimize(self) -> None:
        """As `Store.optimize`, and makes the index from `ANN_FROM` rows on."""
        try:
            self._table.optimize(cleanup_older_than=KEPT, delete_unverified=True)
            self._index_vectors()
            self._index_text()
        except (OSError, RuntimeError, ValueError) as error:
            raise could_not_write(self._address, 0, error) from error

    def has_index(self) -> bool:
        """As `Store.has_index`."""
        return self._index_of("embedding") is not None

    def drop(self) -> None:
        """As `Store.drop`."""
        self._database.drop_table(TABLE)

    def close(self) -> None:
        """Nothing is held open."""

    def _open(self, create: bool) -> Any:
        lancedb = import_lancedb()
        try:
            self._database = lancedb.connect(self._address, read_consistency_interval=timedelta(0))
            if create:
                return self._database.create_table(TABLE, schema=row_schema(self._dim), exist_ok=True)
            return self._database.open_table(TABLE)
        except (OSError, RuntimeError, ValueError) as error:
            if create:
                raise could_not_write(self._address, 0, error) from error
            raise InputError(f"{self._address}: no rows of an index are there ({_first_line(error)})") from error

    def _again(self, ask: Callable[[], T]) -> T:
        """Asks once more where a compaction took away the version that was being read."""
        try:
            return ask()
        except (OSError, RuntimeError, ValueError):
            self._table.checkout_latest()
        try:
            return ask()
        except (OSError, RuntimeError, ValueError) as error:
            raise MidsightError(f"{self._address}: cannot be searched ({_first_line(error)})") from error

    def _index_of(self, column: str) -> Any | None:
        return next((index for index in self._table.list_indices() if index.columns == [column]), None)

    def _index_vectors(self) -> None:
        from lancedb.index import IvfFlat

        rows, old = self.count(), self._index_of("embedding")
        if rows < ANN_FROM or (old is not None and rows < REBUILT_AT * _lists_of(old) ** 2 * _LISTS_ROOT**2):
            return
        lists = round(math.sqrt(rows) / _LISTS_ROOT)
        config = IvfFlat(distance_type="l2", num_partitions=lists)
        self._table.create_index("embedding", config=config, name=f"{_INDEX}{lists}", replace=True)
        if old is not None and old.name != f"{_INDEX}{lists}":
            self._table.drop_index(old.name)

    def _index_text(self) -> None:
        from lancedb.index import FTS

        if self._index_of("text") is None and self._table.count_rows("text IS NOT NULL") >= TEXT_INDEX_FROM:
            self._table.create_index("text", config=FTS())


def import_lancedb() -> Any:
    """The module, in less than half of the time that a plain import takes.

    It brings a client of remote catalogues, with checks of the arguments of each of its functions. Those are made at
    the first call here, as pydantic offers, and not at the import.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pydantic

        eager = pydantic.validate_call
        pydantic.validate_call = partial(eager, config={"defer_build": True})  # type: ignore[assignment]
        try:
            with warnings.catch_warnings(), without_gc():
                warnings.simplefilter("ignore", DeprecationWarning)  # of its dependencies, at import
                import lancedb
        finally:
            pydantic.validate_call = eager
    except ImportError as error:
        raise MissingDependencyError(f"an index needs lancedb, which is not installed: {INSTALL}") from error
    return lancedb


def where_sql(where: Filter) -> str:
    """A filter as the SQL that LanceDB reads."""
    parts = []
    if where.files:
        parts.append(f"file IN ({', '.join(map(_quoted, where.files))})")
    if (regex := where.path_regex()) is not None:
        parts.append(f"regexp_like(path, {_quoted(regex)})")
    if where.kinds:
        parts.append(f"kind IN ({', '.join(map(_quoted, where.kinds))})")
    parts += [f"array_has(tags, {_quoted(tag)})" for tag in where.tags]
    bounds = (("mtime >=", where.after), ("mtime <", where.before), ("size >=", where.min_bytes))
    parts += [f"{test} {value!r}" for test, value in (*bounds, ("size <=", where.max_bytes)) if value is not None]
    return " AND ".join(parts) or "true"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _lists_of(index: Any) -> int:
    """Lists of an index, from its name; of one that somebody else made, as if it had few."""
    number = str(index.name).removeprefix(_INDEX)
    return int(number) if number.isdigit() else 1
