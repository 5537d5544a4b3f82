"""Words that people give to files; they stay with a file when it changes, moves, or is embedded by another model."""

from collections.abc import Iterable
from dataclasses import replace

from midsight.errors import InputError
from midsight.library.index.filetable import FileRecord
from midsight.library.index.library import Library
from midsight.library.index.lock import only_writer
from midsight.library.index.rows import moved_rows
from midsight.library.stores.base import EVERYTHING, Filter, pyarrow

_AT_ONCE = 500  # files of one commit


def tag_files(library: Library, tag: str, where: Filter = EVERYTHING, *, remove: bool = False) -> int:
    """Gives all files that fit a tag, or takes it away.

    Returns:
        How many files have changed.

    Raises:
        InputError: an empty tag.
        OutputError: another process is writing the index, or it cannot be written.
    """
    if not tag.strip():
        raise InputError("an empty tag; name a word")
    with only_writer(library.folder):
        library.refresh()
        found = {file for batch in library.store.scan(["file"], where) for file in batch.column("file").to_pylist()}
        records = [record for record in map(library.files.by_id, sorted(found)) if record is not None]
        changed = [record for record in records if (tag in record.tags) == remove]
        for at in range(0, len(changed), _AT_ONCE):
            _write(library, [_tagged(record, tag, remove) for record in changed[at : at + _AT_ONCE]])
        return len(changed)


def _tagged(record: FileRecord, tag: str, remove: bool) -> FileRecord:
    return replace(record, tags=tuple(sorted({*record.tags} - {tag} if remove else {*record.tags, tag})))


def _write(library: Library, records: Iterable[FileRecord]) -> None:
    """The table first: what a kill leaves out of the rows, the same call puts right."""
    by_id = {record.id: record for record in records}
    library.files.put(list(by_id.values()))
    rows = library.store.read(list(by_id))
    parts = [moved_rows(rows.filter(pyarrow().compute.equal(rows["file"], file)), by_id[file]) for file in by_id]
    library.store.replace(list(by_id), pyarrow().concat_tables(parts))
