"""What a job embeds: files, folders, URLs and lists of them, each file once, in an order that does not change."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from midsight.errors import InputError
from midsight.images import IMAGE_SUFFIXES
from midsight.library.embed import as_text
from midsight.library.jobs import storage
from midsight.library.scan import find_media
from midsight.video import VIDEO_SUFFIXES

LISTS = (".txt", ".parquet")  # a file of this ending is a list of inputs
COLUMN = "path"  # of a list in Parquet


class Input(NamedTuple):
    """One file."""

    name: str  # as it was given: what rows call it
    place: str  # where any machine of the cluster finds it
    state: str  # size and time of change, where the listing knows them


@dataclass(frozen=True)
class Part:
    """Consecutive inputs whose rows go to one file.

    Attributes:
        name: of the file; it depends on the job and on all of the inputs, so no other part can have it.
    """

    number: int
    name: str
    inputs: tuple[Input, ...]


def find_inputs(given: Sequence[str]) -> list[Input]:
    """Files as they are given, folders as the media below them, lists as what they name.

    Folders follow the rules of `library.scan.find_media`, in object stores too.

    Raises:
        InputError: nothing was given, a folder without media, or a list that cannot be read.
    """
    found: dict[str, Input] = {}
    for text in given:
        for one in _listed(text):
            found.setdefault(one.name, one)
    if not found:
        raise InputError("no files were given; name pictures or videos, folders, URLs, or lists of them")
    return list(found.values())


def fingerprint(inputs: Sequence[Input]) -> str:
    """A hash of all names and states, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(_bytes(one))
    return digest.hexdigest()


def parts_of(inputs: Sequence[Input], size: int, job: str) -> Iterator[Part]:
    """The inputs cut into parts.

    Args:
        size: inputs of a part.
        job: what tells this job from others; part of every name.
    """
    for number, first in enumerate(range(0, len(inputs), size)):
        some = tuple(inputs[first : first + size])
        digest = hashlib.sha256(job.encode())
        for one in some:
            digest.update(_bytes(one))
        yield Part(number, f"part-{number:06d}-{digest.hexdigest()[:16]}.parquet", some)


def _bytes(one: Input) -> bytes:
    return os.fsencode(one.name) + b"\0" + one.state.encode() + b"\n"


def _listed(text: str) -> Iterator[Input]:
    suffix = os.path.splitext(storage.without_query(text))[1].lower()
    if suffix in LISTS:
        for name in _lines(text) if suffix == ".txt" else _column(text):
            yield _named(name + (storage.query_of(text) if storage.is_url(name) and "?" not in name else ""))
    elif storage.is_url(text):
        yield from _remote(text)
    else:
        yield from map(_local, find_media([text]))


def _named(name: str) -> Input:
    """What a list names: it is not looked at before it is read."""
    if storage.is_url(name):
        return Input(storage.without_query(name), name, "")
    return Input(name, os.path.abspath(name), "")


def _local(path: Path) -> Input:
    try:
        status = path.stat()
        state = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        state = "missing"
    return Input(str(path), os.path.abspath(path), state)


def _remote(place: str) -> Iterator[Input]:
    from pyarrow.fs import FileSelector, FileType

    system, path = storage.open_place(place)
    named = storage.without_query(place)
    try:
        here = system.get_file_info(path)
        if here.type == FileType.File:
            yield Input(named, place, f"{here.size} {here.mtime_ns}")
            return
        found = system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise InputError(f"{named}: cannot be listed ({error}). Check the address and the right to read it.") from error
    start, scheme = path.rstrip("/") + "/", place.partition("://")[0]
    files = [one for one in found if one.type == FileType.File and _counts(one.path.removeprefix(start))]
    if not files:
        raise InputError(f"{named}: no pictures or videos in this folder. Name another folder, or the files.")
    query = storage.query_of(place)
    for one in sorted(files, key=lambda one: one.path):
        yield Input(f"{scheme}://{one.path}", f"{scheme}://{one.path}{query}", f"{one.size} {one.mtime_ns}")


def _counts(name: str) -> bool:
    """Whether a file below a folder is taken: known ending, nothing hidden."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _lines(place: str) -> list[str]:
    data = storage.read(place, storage.without_query(place), limit=1 << 34)
    names = [os.fsdecode(line.strip()) for line in data.splitlines() if line.strip()]
    if not names:
        raise InputError(f"{storage.without_query(place)}: names no files; expected one on each line")
    return names


def _column(place: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    system, path = storage.open_place(place)
    try:
        table = pq.read_table(path, filesystem=system, columns=[COLUMN])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{storage.without_query(place)}: cannot be read as a list ({error}); "
            f"expected Parquet with a column {COLUMN!r}"
        ) from error
    if COLUMN not in table.column_names:
        raise InputError(f"{storage.without_query(place)}: has no column {COLUMN!r}, which should name the files")
    names = [name for name in table[COLUMN].to_pylist() if name]
    if not names:
        raise InputError(f"{storage.without_query(place)}: names no files")
    return names


def row_name(one: Input) -> str:
    """Its name as text that Parquet can hold."""
    return as_text(one.name)
