"""All rows of an index, or of a part of it, in memory: for looks at the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.library.index.library import Library
from midsight.library.stores.base import COLUMNS, EVERYTHING, Filter

Array = npt.NDArray[np.float32]

_PLAIN = [name for name in COLUMNS if name not in ("text", "embedding")]


@dataclass(frozen=True)
class Matrix:
    """Rows by path and place, and their embeddings float32 (N, D)."""

    rows: list[Mapping[str, Any]]
    embeddings: Array


def read_matrix(library: Library, where: Filter = EVERYTHING) -> Matrix:
    """Rows that fit, without the text of pages; 1.3 kB for each of 320 dimensions."""
    library.refresh()
    rows: list[Mapping[str, Any]] = []
    parts: list[Array] = []
    for batch in library.store.scan([*_PLAIN, "embedding"], where):
        parts.append(batch.column("embedding").flatten().to_numpy(zero_copy_only=False).reshape(-1, library.store.dim))
        rows += batch.select(_PLAIN).to_pylist()
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i]["path"], rows[i]["file"], rows[i]["start"] or 0, rows[i]["page"] or 0)
    )
    joined = np.concatenate(parts) if parts else np.empty((0, library.store.dim), np.float32)
    return Matrix([rows[i] for i in order], joined[order])
