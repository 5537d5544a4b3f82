"""Embedded pieces of a file as rows of the store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from midsight.library.index.filetable import FileRecord
from midsight.library.index.worker import Place
from midsight.library.stores.base import COLUMNS, pyarrow, row_schema

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """A piece of a file with its embedding, float32 (D,), of length 1."""

    place: Place
    embedding: Array


def make_rows(files: Iterable[tuple[FileRecord, Sequence[Embedded]]], dim: int) -> "pa.Table":
    """The rows of some files with their pieces, with the columns of `row_schema`."""
    pa = pyarrow()
    pieces = [(record, piece) for record, several in files for piece in several]
    values: list[dict[str, Any]] = [_row(record, piece.place) for record, piece in pieces]
    columns: dict[str, Any] = {name: [row[name] for row in values] for name in COLUMNS[:-1]}
    matrix = np.stack([piece.embedding for _, piece in pieces]) if pieces else np.empty((0, dim), np.float32)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(matrix.astype(np.float32).ravel(), dim)
    return pa.table(columns, schema=row_schema(dim))


def moved_rows(rows: "pa.Table", record: FileRecord) -> "pa.Table":
    """Rows of a file of equal content as those of another file."""
    pa = pyarrow()
    places = [
        Place(row["kind"], row["start"], row["end"], row["page"])
        for row in rows.select(["kind", "start", "end", "page"]).to_pylist()
    ]
    fresh = {
        "id": [row_id(record.id, place) for place in places],
        "file": [record.id] * len(places),
        "path": [record.path] * len(places),
        "mtime": [record.mtime_ns / 1e9] * len(places),
        "tags": [list(record.tags)] * len(places),
    }
    for name, column in fresh.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(column, rows.schema.field(at).type))
    return rows


def row_id(file: str, place: Place) -> str:
    """32 hexadecimal digits that the same place of the same file always gets."""
    return sha256(f"{file} {place.kind} {place.start} {place.page}".encode()).hexdigest()[:32]


def _row(record: FileRecord, place: Place) -> dict[str, Any]:
    return {
        "id": row_id(record.id, place), "file": record.id, "path": record.path, "kind": place.kind,
        "start": place.start, "end": place.end, "page": place.page, "size": record.size,
        "mtime": record.mtime_ns / 1e9, "hash": record.hash, "width": place.width, "height": place.height,
        "look": place.look, "text": place.text, "tags": list(record.tags),
    }  # fmt: skip
