"""Embeddings on disk: Parquet with a row for each input, or a plain matrix with a JSON file beside it.

Every format is written in pieces, whole or not at all, and carries what the embeddings were made with.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, MissingDependencyError, OutputError
from midsight.files import atomic_write

Array = npt.NDArray[np.float32]
Blocks = Callable[[], "Iterator[Block]"]  # gives all blocks from the start each time it is called

SUFFIXES = (".parquet", ".npy", ".safetensors")


@dataclass(frozen=True)
class Row:
    """One picture, video or segment, without its embedding."""

    path: str
    start: float | None  # seconds
    end: float | None
    error: str | None  # why there is no embedding


@dataclass(frozen=True)
class Block:
    """Some rows and the embeddings of the good ones, float32 (good rows, D), in order."""

    rows: list[Row]
    embeddings: Array


def check_output(path: Path) -> None:
    """Whether embeddings can be written there; called before hours of work, not after.

    Raises:
        InputError: an ending that names no format.
        OutputError: the folder does not exist, or the name is a folder's.
        MissingDependencyError: Parquet without pyarrow.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the ending tells the format; expected {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: no right to write into the folder {path.parent}")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(path: Path, blocks: Blocks, dim: int, about: Mapping[str, str]) -> None:
    """Writes all rows.

    .parquet has the columns path, start, end, embedding (float32 list of fixed length, null for a failure) and error,
    and `about` in the metadata of its schema. .npy and .safetensors ("embeddings") hold the good rows as a matrix
    float32 (N, D); NAME.json beside it holds `about` and every row, with its line in the matrix or its error.

    Raises:
        OutputError: it could not be written; what was there before is intact.
    """
    if path.suffix.lower() == ".parquet":
        with atomic_write(path) as file:
            write_parquet(file, blocks(), dim, about)
        return
    matrix = _write_npy if path.suffix.lower() == ".npy" else _write_safetensors
    count = sum(row.error is None for block in blocks() for row in block.rows)
    with atomic_write(path) as file, atomic_write(sidecar(path)) as beside:
        matrix(file, blocks(), (count, dim), about)
        _write_sidecar(beside, blocks(), about)


def sidecar(path: Path) -> Path:
    """The JSON file that belongs to a matrix."""
    return path.with_name(path.name + ".json")


def _write_sidecar(file: IO[bytes], blocks: Iterable[Block], about: Mapping[str, str]) -> None:
    """One JSON object with a row on each line, written as it goes: there may be millions."""
    head = json.dumps(dict(about), indent=1).removesuffix("\n}")
    file.write(f'{head},\n "rows": ['.encode())
    line, separator = 0, "\n"
    for row in (row for block in blocks for row in block.rows):
        entry: dict[str, Any] = {"path": row.path, "start": row.start, "end": row.end}
        entry |= {"line": line} if row.error is None else {"error": row.error}
        line += row.error is None
        file.write(f"{separator}  {json.dumps(entry)}".encode())
        separator = ",\n"
    file.write(b"\n ]\n}\n")


def _write_npy(file: IO[bytes], blocks: Iterable[Block], shape: tuple[int, int], about: Mapping[str, str]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(block.embeddings.astype("<f4").tobytes())


def _write_safetensors(
    file: IO[bytes], blocks: Iterable[Block], shape: tuple[int, int], about: Mapping[str, str]
) -> None:
    """Eight bytes of length, a JSON header, the rows: the format's whole definition, and never two copies in memory."""
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * shape[0] * shape[1]]}
    header = json.dumps({"__metadata__": dict(about), "embeddings": entry}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)
    for block in blocks:
        file.write(block.embeddings.astype("<f4").tobytes())


def write_parquet(file: IO[bytes], blocks: Iterable[Block], dim: int, about: Mapping[str, str]) -> None:
    """The rows as Parquet into an open file; the columns are those of `write_table`.

    Raises:
        MissingDependencyError: without pyarrow.
    """
    pa, pq = _pyarrow()
    fields = [("path", pa.string()), ("start", pa.float64()), ("end", pa.float64())]
    fields += [("embedding", pa.list_(pa.float32(), dim)), ("error", pa.string())]
    schema = pa.schema(fields, metadata=dict(about))
    with pq.ParquetWriter(file, schema) as writer:
        for block in blocks:
            good = np.array([row.error is None for row in block.rows], dtype=bool)
            values = np.zeros((len(good), dim), np.float32)
            values[good] = block.embeddings
            columns = [
                pa.array([row.path for row in block.rows], pa.string()),
                pa.array([row.start for row in block.rows], pa.float64()),
                pa.array([row.end for row in block.rows], pa.float64()),
                pa.FixedSizeListArray.from_arrays(values.ravel(), dim, mask=pa.array(~good)),
                pa.array([row.error for row in block.rows], pa.string()),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            "writing Parquet needs pyarrow, which is not installed: pip install 'midsight[search]'; "
            "or take an output that ends in .npy or .safetensors"
        ) from error
    return pyarrow, pyarrow.parquet
