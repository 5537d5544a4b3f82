"""Rows of an index, and what every store of them can do.

A row is one thing that can be found: a picture, a stretch of a video, a page of a document. Its columns are those of
`row_schema`, the same in every store, so that tools that know nothing of midsight can read them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, MissingDependencyError, OutputError

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float32]

INSTALL = "pip install 'midsight[search]'"
KINDS = ("image", "video", "page")
COLUMNS = (
    "id",  # 32 hexadecimal digits: of the file and the place in it
    "file",  # 32 hexadecimal digits: of the file's path
    "path",  # below the root, with "/"; bytes that are not UTF-8 as escapes
    "kind",  # image, video, page
    "start",  # seconds, of a stretch of a video
    "end",
    "page",  # from 1, of a document
    "size",  # bytes of the file
    "mtime",  # seconds since 1970
    "hash",  # SHA-256 of the file
    "width",  # pixels, of the picture, frame or page
    "height",
    "look",  # 16 hexadecimal digits: the picture's rough light and dark, nearly the same where pictures are
    "text",  # of the page
    "tags",
    "embedding",  # float32, length 1
)
_LENGTH = 1e-3  # how far the length of an embedding may be from 1: bf16 models round


def row_schema(dim: int) -> "pa.Schema":
    """The columns of a store, in order, for embeddings of `dim` numbers.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    pa = pyarrow()
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    types = (text, text, text, text, real, real, pa.int32(), whole, real, text, pa.int32(), pa.int32(), text, text)
    kinds = (*types, pa.list_(text), pa.list_(pa.float32(), dim))
    return pa.schema(list(zip(COLUMNS, kinds, strict=True)))


def empty_rows(dim: int) -> "pa.Table":
    """A table of no rows."""
    return row_schema(dim).empty_table()


@dataclass(frozen=True)
class Filter:
    """Which rows count; what is empty or None lets everything through, what is given must all hold.

    Attributes:
        paths: patterns, one of which must fit: `*` any part of a name, `?` one letter, `**` any folders. A pattern
            without "/" is held against the name alone, one with "/" against the whole path below the root.
        kinds: "image", "video", "page".
        tags: all of them must be there.
        after, before: time of the file's last change, seconds since 1970; `before` itself is left out.
        min_bytes, max_bytes: size of the file.
        files: ids of files.
    """

    paths: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    after: float | None = None
    before: float | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("paths", "kinds", "tags", "files"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"filter: {name} must be a tuple of texts, got one text {getattr(self, name)!r}")
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise InputError(f"filter: there is no kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}")

    def __bool__(self) -> bool:
        return self != Filter()

    def path_regex(self) -> str | None:
        """One regular expression for all path patterns, anchored; None where there are none."""
        return "|".join(f"(?:{glob_regex(glob)})" for glob in self.paths) if self.paths else None


EVERYTHING = Filter()


@dataclass(frozen=True)
class Match:
    """A row that a search found, without its embedding.

    Attributes:
        row: values by column.
        score: cosine similarity, or of a full-text search its own positive score; higher is better.
    """

    row: Mapping[str, Any]
    score: float


class Store(Protocol):
    """Rows in and out. One writer at a time; any number of readers, who see what is committed."""

    @property
    def address(self) -> str:
        """Where it lies, for messages and for `open_store`."""
        ...

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        ...

    def replace(self, files: Sequence[str], rows: "pa.Table", new: Sequence[str] = ()) -> None:
        """Removes all rows of these files and adds the new ones, in one step where the store can.

        Args:
            files: ids; those of all new rows are among them, or among `new`.
            rows: columns of `row_schema`.
            new: ids of files that have no rows yet; nothing is looked for that could be removed.

        Raises:
            InputError: an embedding that is not finite or not of length 1, or rows of other files.
            OutputError: the rows cannot be written, for instance on a full disk; what was there is intact.
        """
        ...

    def read(self, files: Sequence[str]) -> "pa.Table":
        """All rows of these files, with embeddings."""
        ...

    def row(self, identifier: str) -> tuple[Match, Array] | None:
        """One row by its id, with its embedding float32 (D,); None where there is none."""
        ...

    def files(self) -> dict[str, int]:
        """How many rows each file has, by its id."""
        ...

    def scan(self, columns: Sequence[str], where: Filter = EVERYTHING) -> Iterator["pa.RecordBatch"]:
        """Some columns of all rows that fit, in pieces."""
        ...

    def search(self, vector: Array, top: int, where: Filter = EVERYTHING, *, exact: bool = False) -> list[Match]:
        """The nearest rows, best first.

        Args:
            vector: float32 (D,), of length 1.
            exact: compare with every row, whatever index there is.
        """
        ...

    def search_text(self, words: str, top: int, where: Filter = EVERYTHING) -> list[Match]:
        """The rows whose text holds some of the words, best first; none where there are none."""
        ...

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many rows fit."""
        ...

    def optimize(self) -> None:
        """Puts small pieces together, frees what was deleted, and brings the indices up to date.

        Raises:
            OutputError: no room for it; the rows are intact.
        """
        ...

    def has_index(self) -> bool:
        """Whether searches go through an index that may miss a row."""
        ...

    def drop(self) -> None:
        """Removes all rows, and the place where they were."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...


def check_rows(files: Sequence[str], rows: "pa.Table", dim: int) -> None:
    """What must hold of new rows whatever keeps them.

    Raises:
        InputError: rows of other files, other columns, or an embedding that could match anything or nothing.
    """
    if rows.schema.names != list(COLUMNS):
        raise InputError(f"rows must have the columns {', '.join(COLUMNS)}; got {', '.join(rows.schema.names)}")
    known = set(files)
    foreign = [path for file, path in zip(*_texts(rows, "file", "path"), strict=True) if file not in known]
    if foreign:
        raise InputError(f"{foreign[0]}: a row of a file that is not among those that are replaced")
    lengths = np.linalg.norm(embeddings(rows, dim).astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH))  # NaN is bad, too
    if len(bad):
        path = rows["path"][int(bad[0])]
        raise InputError(f"{path}: its embedding has length {lengths[bad[0]]:g}, expected 1; it is not stored")


def embeddings(rows: "pa.Table", dim: int) -> Array:
    """The embeddings of a table, float32 (N, D)."""
    column = rows["embedding"].combine_chunks()
    if not len(column):
        return np.empty((0, dim), np.float32)
    if column.type.list_size != dim:
        raise InputError(f"embeddings of {column.type.list_size} numbers, expected {dim}")
    values: Array = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), dim)
    return values


def glob_regex(glob: str) -> str:
    """A path pattern as a regular expression that both Python and Rust read; see `Filter`."""
    body, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at):
            body, at = body + "(?:[^/]+/)*", at + 3
        elif glob.startswith("**", at):
            body, at = body + ".*", at + 2
        else:
            body += {"*": "[^/]*", "?": "[^/]"}.get(glob[at]) or re.escape(glob[at])
            at += 1
    return f"^(?:{'' if '/' in glob else '(?:.*/)?'}{body})$"


def could_not_write(address: str, size: int, error: Exception) -> OutputError:
    """The error for rows that could not be written.

    Args:
        size: bytes that were to be written.
    """
    full = "os error 28" in str(error) or "disk is full" in str(error)
    reason = "no space left on the device" if full else str(error).splitlines()[0][:300]
    what = f"{size:,} bytes" if size else "it"
    return OutputError(
        f"{address}: {what} could not be written ({reason}). What was there before is intact; make room and "
        "run the same command again."
    )


def pyarrow() -> Any:
    """The module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError as error:
        raise MissingDependencyError(f"an index needs pyarrow, which is not installed: {INSTALL}") from error
    return pyarrow


def _texts(rows: "pa.Table", *names: str) -> list[list[str]]:
    return [rows[name].to_pylist() for name in names]
