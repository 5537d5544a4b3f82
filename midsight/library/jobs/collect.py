"""Rows that come from the cluster, in any order and possibly more than once, to parts in which each is there once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.library.jobs.inputs import Part, row_name
from midsight.library.jobs.stages import LOST
from midsight.library.tables import Block, Row

Array = npt.NDArray[np.float32]


@dataclass
class _Input:
    """The rows of one input that have come so far, by their place in it."""

    rows: dict[int, tuple[Row, Array | None]] = field(default_factory=dict)
    count: int | None = None  # known once the last one has come

    @property
    def whole(self) -> bool:
        return self.count is not None and len(self.rows) >= self.count


class Collector:
    """Parts that are coming in.

    A task that is run again sends its rows again, and not always cut in the same way: the first row of a place is kept,
    and nothing is added to an input that is whole.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._open: dict[int, dict[int, _Input]] = {}
        self._done: set[int] = set()
        self.trouble: str | None = None  # why rows are missing, as far as the cluster has told

    def add(self, table: Any, parts: dict[int, Part]) -> Iterator[tuple[Part, Block | None, list[Row]]]:
        """Takes a table of `stages.Embed`.

        Args:
            parts: those that the table may be of, by number.

        Yields:
            For each part in it: its block, if the part is whole now, and the rows that are new.
        """
        new: dict[int, list[Row]] = {}
        for number, at, entry, last, row, embedding in self._rows(table, parts):
            if at == LOST:
                self.trouble = row.error
                continue
            if number in self._done:
                continue
            one = self._open.setdefault(number, {}).setdefault(at, _Input())
            if one.whole or entry in one.rows:
                continue
            one.rows[entry] = (row, embedding)
            if last:
                one.count = entry + 1
            new.setdefault(number, []).append(row)
        for number, rows in new.items():
            yield parts[number], self._close(number, len(parts[number].inputs)), rows

    def _rows(self, table: Any, parts: dict[int, Part]) -> Iterator[tuple[int, int, int, bool, Row, Array | None]]:
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        embeddings = np.array(values, np.float32).reshape(-1, self._dim)  # a copy: the cluster's memory is let go
        names = ("part", "input", "entry", "last", "start", "end", "error")
        columns = (table[name].to_pylist() for name in names)
        for (number, at, entry, last, start, end, error), embedding in zip(
            zip(*columns, strict=True), embeddings, strict=True
        ):
            row = Row("" if at == LOST else row_name(parts[number].inputs[at]), start, end, error)
            yield number, at, entry, last, row, None if error is not None else embedding

    def _close(self, number: int, size: int) -> Block | None:
        inputs = self._open[number]
        if len(inputs) < size or not all(one.whole for one in inputs.values()):
            return None
        self._done.add(number)
        del self._open[number]
        found = [one.rows[entry] for _, one in sorted(inputs.items()) for entry in range(one.count or 0)]
        good = [embedding for _, embedding in found if embedding is not None]
        return Block([row for row, _ in found], np.stack(good) if good else np.empty((0, self._dim), np.float32))
