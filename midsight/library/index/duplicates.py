"""Files that are the same or nearly so: equal bytes, or embeddings that hardly differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.library.index.library import Library
from midsight.library.index.matrix import Matrix, read_matrix
from midsight.library.stores.base import EVERYTHING, Filter

Array = npt.NDArray[np.float32]

# Of 90 photographs and drawings, recompressed, halved and brighter copies are found in nine of ten cases; of 12,720
# pairs of different files 22, all alike to the eye. By the cosine alone, 0.9 finds fewer of the first, and 83 pairs.
ALIKE = 0.85  # cosine from which two files count as nearly the same, if their looks agree as well
_BITS = 8  # of 64 in which the looks of two such files may differ
_BLOCK = 2048  # files compared with all others at a time


@dataclass(frozen=True)
class Copy:
    """A file of a group.

    Attributes:
        path: below the root.
        file: the file itself.
        kind: image, video or page.
        start, page: where its first row is.
        similarity: cosine with the file that is kept, 1 for that one.
        equal: whether it has the bytes of the file that is kept.
        size: bytes.
        pixels: width times height.
    """

    path: str
    file: Path
    kind: str
    start: float | None
    page: int | None
    similarity: float
    equal: bool
    size: int
    pixels: int


@dataclass(frozen=True)
class Group:
    """Files that show the same, the one to keep first: that with most pixels, then with most bytes."""

    copies: list[Copy]

    @property
    def spare(self) -> int:
        """Bytes of all but the one to keep."""
        return sum(copy.size for copy in self.copies[1:])


def find_duplicates(library: Library, similarity: float = ALIKE, where: Filter = EVERYTHING) -> list[Group]:
    """Groups of files that show the same; nothing is changed.

    A file is compared by the mean of its rows and by the look of the first, with files of the same kind and the same
    number of rows. Every file of a group is as similar as asked to the one that is kept, so that groups do not run
    along a chain of small steps.

    Args:
        similarity: least cosine; 1 finds files of equal bytes alone.

    Returns:
        Groups of at least two files, those that hold most spare bytes first.

    Raises:
        InputError: a similarity that is no cosine above 0.
    """
    if not 0 < similarity <= 1:
        raise InputError(f"similarity must be above 0 and at most 1, got {similarity}")
    files = _files(read_matrix(library, where))
    groups: list[list[tuple[_File, float]]] = []
    for members in _of_one_kind(files):
        groups += _groups([files[i] for i in members], similarity)
    found = [Group([_copy(library, entry, kept[0], likeness) for entry, likeness in kept]) for kept in groups]
    return sorted(found, key=lambda group: (-group.spare, group.copies[0].path))


@dataclass(frozen=True)
class _File:
    row: Mapping[str, Any]  # its first
    rows: int
    vector: Array  # float32 (D,), length 1

    @property
    def quality(self) -> tuple[int, int]:
        return self.row["width"] * self.row["height"], self.row["size"]


def _files(matrix: Matrix) -> list[_File]:
    """One entry for each file: rows of one file follow each other."""
    ids = np.array([row["file"] for row in matrix.rows])
    starts = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1)] if len(ids) else []
    found = []
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        mean = matrix.embeddings[start:stop].mean(axis=0)
        length = float(np.linalg.norm(mean))
        found.append(_File(matrix.rows[start], stop - start, mean / max(length, 1e-12)))
    return found


def _of_one_kind(files: Sequence[_File]) -> list[list[int]]:
    kinds: dict[tuple[str, int], list[int]] = {}
    for number, file in enumerate(files):
        kinds.setdefault((file.row["kind"], file.rows), []).append(number)
    return [members for members in kinds.values() if len(members) > 1]


def _groups(files: Sequence[_File], similarity: float) -> Iterator[list[tuple[_File, float]]]:
    """Greedily, the best files first: each takes all that is near to it and not taken yet."""
    order = sorted(range(len(files)), key=lambda i: (*(-q for q in files[i].quality), files[i].row["path"]))
    ranked = [files[i] for i in order]
    vectors = np.stack([file.vector for file in ranked])
    looks = np.array([int(file.row["look"] or "0", 16) for file in ranked], np.uint64)
    by_hash: dict[str, list[int]] = {}
    for number, file in enumerate(ranked):
        by_hash.setdefault(file.row["hash"], []).append(number)
    taken = np.zeros(len(ranked), bool)
    for at in range(0, len(ranked), _BLOCK):
        likeness = vectors[at : at + _BLOCK] @ vectors.T  # block, N
        for number in range(at, min(at + _BLOCK, len(ranked))):
            if taken[number]:
                continue
            near = _near(likeness[number - at], looks, number, similarity)
            members = [i for i in {*near, *by_hash[ranked[number].row["hash"]]} if not taken[i] and i != number]
            taken[[number, *members]] = True
            if members:
                members.sort(key=lambda i: (-likeness[number - at, i], i))
                yield [(ranked[number], 1.0), *((ranked[i], float(likeness[number - at, i])) for i in members)]


def _near(likeness: Array, looks: npt.NDArray[np.uint64], number: int, similarity: float) -> list[int]:
    """Files that are nearly the same as one of them."""
    if similarity == 1:
        return []
    close = np.flatnonzero(likeness >= similarity)
    return [int(i) for i in close if int(looks[i] ^ looks[number]).bit_count() <= _BITS]


def _copy(library: Library, file: _File, kept: tuple[_File, float], likeness: float) -> Copy:
    row = file.row
    equal = row["hash"] == kept[0].row["hash"]
    place = (row["path"], library.file_of(row), row["kind"], row["start"], row["page"])
    return Copy(*place, min(1.0, likeness), equal, row["size"], row["width"] * row["height"])
