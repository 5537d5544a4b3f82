"""What became of every file: a table with outcome and reason, in SQLite, beside the rows."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from midsight.errors import InputError, OutputError
from midsight.library.stores.base import could_not_write

Result = Literal["indexed", "partial", "failed"]
_WAIT = 30.0  # seconds, for another process that is writing
_CREATE = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, path TEXT NOT NULL, raw BLOB, kind TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, hash TEXT, rows INTEGER NOT NULL, tags TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_hash ON files (hash);
"""
_COLUMNS = "id, path, raw, kind, outcome, reason, size, mtime_ns, hash, rows, tags"


@dataclass(frozen=True)
class FileRecord:
    """One file below the root, and what became of it.

    Attributes:
        name: path below the root as the system has it; bytes that are not UTF-8 as surrogates.
        kind: image, video or document.
        outcome: "indexed"; "partial" where a part of it could not be read; "failed".
        reason: why it is not "indexed".
        size, mtime_ns: as they were when it was read.
        hash: SHA-256 of its bytes; None where they could not be read.
        rows: what it has in the store.
        tags: words that a person gave it.
    """

    name: str
    kind: str
    outcome: Result
    size: int
    mtime_ns: int
    hash: str | None = None
    rows: int = 0
    reason: str | None = None
    tags: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return file_id(self.name)

    @property
    def path(self) -> str:
        """The name as text that every format can hold."""
        return shown(self.name)


def file_id(name: str) -> str:
    """Stands for a path below the root: 32 hexadecimal digits."""
    return sha256(os.fsencode(name)).hexdigest()[:32]


def shown(name: str) -> str:
    """A name as text that every format can hold: "/" between folders, bytes that are not UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace(os.sep, "/")


class FileTable:
    """The table; others read it with any SQLite client.

    Raises:
        InputError: it is damaged.
        OutputError: it cannot be made.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise InputError(f"{path}: the table of files is missing. Delete the index's folder and make it anew.")
        with self._errors():
            # Whoever answers requests in several threads opens one for each, or keeps to one at a time.
            self._database = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
            if create:
                self._database.executescript(_CREATE)

    def put(self, records: Sequence[FileRecord]) -> None:
        """Adds records, or puts them in the place of earlier ones, all or none.

        Raises:
            OutputError: the disk is full.
        """
        rows = [_row(record) for record in records]
        with self._errors(rows), self._database:
            self._database.executemany(f"REPLACE INTO files ({_COLUMNS}) VALUES ({', '.join('?' * 11)})", rows)

    def remove(self, names: Sequence[str]) -> None:
        """Forgets files."""
        with self._errors(), self._database:
            self._database.executemany("DELETE FROM files WHERE id = ?", [(file_id(name),) for name in names])

    def all(self, *outcomes: Result) -> Iterator[FileRecord]:
        """All records by path, or those of some outcomes."""
        where = f"WHERE outcome IN ({', '.join('?' * len(outcomes))})" if outcomes else ""
        with self._errors():
            yield from map(
                _record, self._database.execute(f"SELECT {_COLUMNS} FROM files {where} ORDER BY path", outcomes)
            )

    def get(self, name: str) -> FileRecord | None:
        """The record of a file."""
        return self.by_id(file_id(name))

    def by_id(self, identifier: str) -> FileRecord | None:
        """The record of a file by its id."""
        return self._first("id = ?", identifier)

    def with_hash(self, content: str) -> FileRecord | None:
        """A file of that content that was indexed whole."""
        return self._first("hash = ? AND outcome = 'indexed'", content)

    def counts(self) -> dict[str, int]:
        """How many files each outcome has."""
        with self._errors():
            return dict(self._database.execute("SELECT outcome, count(*) FROM files GROUP BY outcome"))

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    def _first(self, where: str, value: str) -> FileRecord | None:
        with self._errors():
            found = self._database.execute(f"SELECT {_COLUMNS} FROM files WHERE {where} LIMIT 1", (value,)).fetchone()
        return None if found is None else _record(found)

    @contextmanager
    def _errors(self, rows: Sequence[tuple[object, ...]] = ()) -> Iterator[None]:
        """`rows`: what is about to be written."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if rows:
                size = sum(len(str(value)) for row in rows for value in row)
                raise could_not_write(os.fspath(self.path), size, error) from error
            raise OutputError(f"{self.path}: cannot be read or written ({error}). What was there is intact.") from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path}: is damaged ({error}). Delete the index's folder and make it anew."
            ) from error


def _row(record: FileRecord) -> tuple[object, ...]:
    raw = os.fsencode(record.name)
    odd = None if raw == record.name.encode("utf-8", "replace") else raw
    return (
        record.id, record.path, odd, record.kind, record.outcome, record.reason, record.size, record.mtime_ns,
        record.hash, record.rows, json.dumps(record.tags),
    )  # fmt: skip


def _record(row: Iterable[object]) -> FileRecord:
    _, path, raw, kind, outcome, reason, size, mtime_ns, content, rows, tags = row
    name = os.fsdecode(raw) if isinstance(raw, bytes) else str(path).replace("/", os.sep)
    return FileRecord(name, kind, outcome, size, mtime_ns, content, rows, reason, tuple(json.loads(str(tags))))  # type: ignore[arg-type]  # as _row wrote it
