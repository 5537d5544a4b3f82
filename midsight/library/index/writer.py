"""Groups of files to the store and then to the table of files."""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from midsight.library.index.filetable import FileRecord, FileTable
from midsight.library.index.rows import Embedded, make_rows
from midsight.library.stores import Store
from midsight.library.stores.base import pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

GROUP_ROWS = 512
GROUP_FILES = 512
GROUP_SECONDS = 5.0  # most work that a kill can cost, beside one file


class Writer(Generic[T]):
    """Keeps files until a group is full; gives out what belongs to them once they are committed.

    Args:
        stored: ids of the files to come that have rows in the store. The others are only added: to look for their rows
            would take time and memory with every piece that the store is made of.
    """

    def __init__(self, store: Store, table: FileTable, stored: Collection[str]) -> None:
        self._store, self._table, self._stored = store, table, stored
        self._waiting: list[tuple[FileRecord, pa.Table | Sequence[Embedded], T]] = []
        self._rows = 0
        self._since = time.monotonic()

    def add(self, record: FileRecord, rows: "pa.Table | Sequence[Embedded]", outcome: T) -> Iterator[T]:
        """One more file; the outcomes of its group, if that is full now.

        Args:
            rows: as they are in the store, or pieces, which become rows together with those of the group.
        """
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((record, rows, outcome))
        self._rows += len(rows)
        full = self._rows >= GROUP_ROWS or len(self._waiting) >= GROUP_FILES
        if full or time.monotonic() - self._since > GROUP_SECONDS:
            yield from self.commit()

    def commit(self) -> Iterator[T]:
        """Writes what waits, rows first; gives out its outcomes.

        Raises:
            OutputError: the rows or the records cannot be written; what was committed before is intact.
        """
        group, self._waiting, self._rows = self._waiting, [], 0
        if not group:
            return
        pa = pyarrow()
        pieces = [(record, rows) for record, rows, _ in group if not isinstance(rows, pa.Table)]
        tables = [rows for _, rows, _ in group if isinstance(rows, pa.Table)]
        rows = pa.concat_tables([make_rows(pieces, self._store.dim), *tables])
        ids = [record.id for record, _, _ in group]
        self._store.replace(
            [name for name in ids if name in self._stored], rows, [name for name in ids if name not in self._stored]
        )
        self._table.put([record for record, _, _ in group])
        yield from (outcome for _, _, outcome in group)
