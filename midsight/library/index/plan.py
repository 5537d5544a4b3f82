"""What there is to do, from what is on the disk, what is in the table of files and what is in the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from midsight.library.index.filetable import FileRecord, file_id
from midsight.library.index.scan import Found, Scan


@dataclass(frozen=True)
class Plan:
    """Work for one run.

    Attributes:
        todo: files to read, new ones and changed ones.
        refused: files that cannot even be opened, as far as that is news.
        gone: files that are no longer there.
        strays: ids of files that have rows but are neither known nor on the disk: what a kill left of a removal.
        unchanged: how many files need nothing.
        failed: how many of those could not be read when they were last tried.
    """

    todo: list[Found] = field(default_factory=list)
    refused: list[Found] = field(default_factory=list)
    gone: list[FileRecord] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    unchanged: int = 0
    failed: int = 0


def make_plan(scan: Scan, known: Mapping[str, FileRecord], stored: Mapping[str, int], *, retry: bool = False) -> Plan:
    """Compares the disk with what is known.

    A file counts as changed where its size or its time of change is another one, and as unfinished where the store
    does not hold the rows that the table speaks of. One that could be read but not decoded is tried again only when it
    has changed; one that could not be read at all is tried each time, which costs nothing.

    Args:
        known: records by name.
        stored: rows of each file in the store, by id.
        retry: read failed and partial files again although they have not changed.
    """
    plan = Plan()
    unchanged = failed = 0
    for name, found in scan.files.items():
        record = known.get(name)
        if record is not None and _is_done(found, record, stored, retry):
            unchanged += 1
            failed += record.outcome == "failed"
        else:
            (plan.todo if found.error is None else plan.refused).append(found)
    plan.gone.extend(record for name, record in known.items() if name not in scan.files and not scan.hides(name))
    if stored and not scan.closed:  # else a row may be of a file that is only out of sight
        here = {record.id for record in known.values()} | {file_id(name) for name in scan.files}
        plan.strays.extend(identifier for identifier in stored if identifier not in here)
    return Plan(plan.todo, plan.refused, plan.gone, plan.strays, unchanged, failed)


def _is_done(found: Found, record: FileRecord, stored: Mapping[str, int], retry: bool) -> bool:
    if found.error is not None:
        return record.reason == found.error
    if (record.size, record.mtime_ns) != (found.size, found.mtime_ns) or stored.get(record.id, 0) != record.rows:
        return False
    if record.hash is None:
        return False
    return not retry or record.outcome == "indexed"
