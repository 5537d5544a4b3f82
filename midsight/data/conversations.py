"""Questions and answers to learn: JSONL files of rows, several at once, mixed by weight.

Each number in the order (a draw) picks a file by its weight and takes the next of its rows, in the file's order of
that epoch. Process `rank` of `ranks` reads every `ranks`-th draw, so that as long as no row is left out, all processes
together read the same rows as one process alone. What a row means is the affair of whoever reads it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from midsight.ahead import read_ahead
from midsight.data.datasets import EVALUATION_MARK
from midsight.data.samples import BadSample, UnusableError
from midsight.data.stream import AHEAD
from midsight.data.tables import TablePart
from midsight.errors import ConfigError, InputError

R = TypeVar("R")
_BLOCK = 4096  # draws that are thrown at once
_EXAMPLE = 300  # characters of an example


@dataclass(frozen=True)
class RowFile:
    """One JSONL file of rows; `open_rows` makes it.

    Attributes:
        table: finds rows by their place in the file.
        root: what paths of media in its rows are relative to.
        weight: how often it is drawn from, against the others' weights.
    """

    table: TablePart
    root: Path
    weight: float

    def __len__(self) -> int:
        listing = self.table.listing()
        return len(listing) if isinstance(listing, range) else 0

    def fingerprint(self) -> str:
        """Another one for other rows or another weight; media are not looked at."""
        return f"{self.table.name}\0{self.weight!r}\0{self.table.fingerprint()}"


@dataclass(frozen=True)
class Drawn:
    """One row in its place in the order, not yet read."""

    file: RowFile
    row: int
    draw: int
    counts: tuple[int, ...]  # rows that were drawn from each file before and with this one

    def read(self) -> tuple[str, dict[str, Any]]:
        """Its key and what it says.

        Raises:
            BadSample: it is no JSON object.
        """
        return self.file.table.record(self.row)


def open_rows(path: str | Path, root: str | Path | None = None, weight: float = 0.0) -> RowFile:
    """A file of rows.

    Args:
        path: of the JSONL file.
        root: folder of its media; None takes the file's own.
        weight: 0 takes the number of its rows, so that all files come to their end together.

    Raises:
        InputError: no such file, another kind of file, no rows, or one that is marked as not to be trained on.
        ConfigError: a negative weight.
    """
    found = Path(path)
    if not found.is_file() or found.suffix.lower() != ".jsonl":
        what = "no such file" if not found.exists() else "not a JSONL file"
        raise InputError(f"{found}: {what}; expected rows of conversations, one JSON object a line (.jsonl)")
    if (found.parent / EVALUATION_MARK).exists():
        raise InputError(f"{found}: is for evaluation only ({found.parent / EVALUATION_MARK}) and not trained on.")
    folder = found.parent if root is None else Path(root)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; expected the root of the media in {found}")
    if weight < 0:
        raise ConfigError(f"{found}: the weight must be 0 (as many as it has rows) or more, got {weight}")
    file = RowFile(TablePart(found), folder, weight)
    if not len(file):
        raise InputError(f"{found}: has no rows; expected one JSON object a line")
    return RowFile(file.table, folder, float(weight or len(file)))


class RowStream(Generic[R]):
    """Rows of several files in an order without end, each made ready by `prepare` in background threads.

    Iterating goes on where the last iterator over this stream stopped.

    Args:
        files: to draw from.
        prepare: called in a worker for each row; raises BadSample for one to be left out.
        seed: of the order.
        rank, ranks: of this process.
        shuffle: else rows come in the order of their file, and files still by their weights.
        workers: threads.
    """

    def __init__(
        self,
        files: Sequence[RowFile],
        prepare: Callable[[Drawn], R],
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        shuffle: bool = True,
        workers: int = 2,
    ) -> None:
        if not files:
            raise ConfigError("there is no data set: name at least one file of rows")
        if seed < 0 or not 0 <= rank < ranks:
            raise ConfigError(f"expected seed >= 0 and 0 <= rank < ranks, got {seed}, {rank} and {ranks}")
        self.files, self.prepare, self.workers = tuple(files), prepare, max(1, workers)
        self.seed, self.rank, self.ranks, self.shuffle = seed, rank, ranks, shuffle
        self.skipped: Counter[str] = Counter()  # reason -> rows, up to the last one that was taken
        self.examples: dict[str, str] = {}  # reason -> what was wrong with the first one
        self.taken = 0
        self._draw, self._counts = 0, (0,) * len(self.files)
        self._orders: dict[int, tuple[int, Any]] = {}  # file -> epoch and order of the rows
        self._useless_after = 2 * ranks * max(map(len, self.files)) * len(self.files)

    @property
    def fingerprint(self) -> str:
        """Another one for other files, rows or weights."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.fingerprint().encode(errors="surrogateescape") + b"\n")
        return digest.hexdigest()

    def __iter__(self) -> Iterator[R]:
        """
        Raises:
            UnusableError: every row that was tried is unusable; the message says why.
        """

        def read(drawn: Drawn) -> Iterator[R]:
            yield self.prepare(drawn)

        since = 0
        ahead = read_ahead(self._draws(), read, workers=self.workers, inputs_ahead=AHEAD * self.workers)
        with closing(ahead) as found:
            for drawn, result in found:
                self._draw, self._counts = drawn.draw + 1, drawn.counts
                if isinstance(result, BadSample):
                    since += 1
                    self.skipped[result.reason] += 1
                    self.examples.setdefault(result.reason, str(result)[:_EXAMPLE])
                    if since > self._useless_after:
                        raise UnusableError(f"no row of the data sets can be used: {self.report()}")
                elif isinstance(result, Exception):
                    raise result
                else:
                    since, self.taken = 0, self.taken + 1
                    yield result

    def _draws(self) -> Iterator[Drawn]:
        """This process's rows from where the stream stands, without end."""
        draw, counts = self._draw, list(self._counts)
        chosen, block = np.empty(0, np.int64), -1
        while True:
            if draw // _BLOCK != block:
                block = draw // _BLOCK
                chosen = self._choices(block)
            which = int(chosen[draw % _BLOCK])
            number = counts[which]
            counts[which] += 1
            if draw % self.ranks == self.rank:
                file = self.files[which]
                yield Drawn(file, self._row(which, number), draw, tuple(counts))
            draw += 1

    def _choices(self, block: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Files of a block of draws."""
        weights = np.array([file.weight for file in self.files], np.float64)
        return _dice(self.seed, 0, block).choice(len(weights), _BLOCK, p=weights / weights.sum())

    def _row(self, which: int, number: int) -> int:
        """The `number`-th row that is drawn from a file, counted over its epochs."""
        epoch, place = divmod(number, len(self.files[which]))
        if not self.shuffle:
            return place
        if self._orders.get(which, (-1,))[0] != epoch:
            rows = _dice(self.seed, 1 + which, epoch).permutation(len(self.files[which]))
            self._orders[which] = epoch, rows
        return int(self._orders[which][1][place])

    def state(self) -> dict[str, Any]:
        """Where the stream stands behind the last row that was taken, and what was left out before it; JSON."""
        return {
            "fingerprint": self.fingerprint, "order": self._order(), "draw": self._draw, "counts": list(self._counts),
            "taken": self.taken, "skipped": dict(self.skipped), "examples": dict(self.examples),
        }  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        """Go on behind the row that was taken last before `state` was asked for.

        Raises:
            InputError: the state is of other data sets or another order, or is no state.
        """
        try:
            draw, counts, taken = int(state["draw"]), tuple(int(n) for n in state["counts"]), int(state["taken"])
            skipped, examples = Counter(state["skipped"]), dict(state["examples"])
            fingerprint, order = state["fingerprint"], state["order"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not the state of a stream of rows ({error!r}). Expected what state() gave.") from error
        if fingerprint != self.fingerprint:
            raise InputError(
                f"the data sets changed since this state was saved (fingerprint {fingerprint[:12]}, now "
                f"{self.fingerprint[:12]}). Put them back as they were, or start anew."
            )
        if order != self._order():
            raise InputError(f"this state was saved with {order}, now it is {self._order()}. Start anew.")
        self._draw, self._counts, self.taken = draw, counts, taken
        self.skipped, self.examples = skipped, examples

    def _order(self) -> dict[str, Any]:
        return {"seed": self.seed, "shuffle": self.shuffle, "rank": self.rank, "ranks": self.ranks}

    def report(self) -> str:
        """What was left out, one clause for each reason with an example; "" where nothing was."""
        return "; ".join(
            f"{n} left out: {reason} ({self.examples[reason]})" for reason, n in self.skipped.most_common()
        )


def _dice(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(numbers))
