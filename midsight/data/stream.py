"""The order in which samples are read: by seed and epoch, split over processes, resumable at the exact sample.

An epoch: the parts in the order of dice thrown for (seed, epoch); so many at a time (a window) are listed and their
entries mixed. Process `rank` takes every `ranks`-th entry, so that an epoch is split without overlap or loss whatever
cannot be read. Every process lists all parts (headers, no media); in memory is the listing of one window.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np

from midsight.ahead import read_ahead
from midsight.data.samples import BadSample, Part, Sample, UnusableError
from midsight.errors import ConfigError, InputError

R = TypeVar("R")
_EXAMPLE = 300  # characters of an example
AHEAD = 4  # entries that each worker may be ahead of the caller


@dataclass(frozen=True)
class Order:
    """Which samples a process reads, in which order."""

    seed: int = 0
    shuffle: bool = True
    window: int = 16  # parts that are mixed with one another
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0 or self.window < 1 or not 0 <= self.rank < self.ranks:
            raise ConfigError(f"expected seed >= 0, window >= 1 and 0 <= rank < ranks, got {self}")


@dataclass(frozen=True)
class Place:
    """Where a stream stands: entry `offset` of a window, in mixed order, comes next, be it this process's or not."""

    epoch: int = 0
    window: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Item:
    """One entry in its place in the order, not yet read."""

    part: Part
    entry: Any
    epoch: int
    next: Place  # of a stream that has done with this entry

    def read(self) -> Sample:
        """
        Raises:
            BadSample: it cannot be used.
        """
        return self.part.read(self.entry)


def epoch_items(parts: Sequence[Part], order: Order, place: Place) -> Iterator[Item]:
    """What this process has to read from a place to the end of its epoch."""
    mixed = list(parts)
    if order.shuffle:
        mixed = [mixed[k] for k in _dice(order.seed, place.epoch, 0).permutation(len(mixed))]
    for window in range(place.window, -(-len(mixed) // order.window)):
        chosen = mixed[window * order.window : (window + 1) * order.window]
        first = place.offset if window == place.window else 0
        yield from _window_items(chosen, order, Place(place.epoch, window, first))


def _window_items(parts: Sequence[Part], order: Order, place: Place) -> Iterator[Item]:
    listings = [part.listing() for part in parts]
    ends = np.cumsum([len(listing) for listing in listings])
    rows = np.arange(int(ends[-1]))
    if order.shuffle:
        _dice(order.seed, place.epoch, place.window + 1).shuffle(rows)
    turn = (order.rank + place.window + place.epoch) % order.ranks  # what is left over goes to each in turn
    for offset in range(place.offset + (turn - place.offset) % order.ranks, len(rows), order.ranks):
        row = int(rows[offset])
        k = int(np.searchsorted(ends, row, side="right"))
        entry = listings[k][row - int(ends[k]) + len(listings[k])]
        yield Item(parts[k], entry, place.epoch, Place(place.epoch, place.window, offset + 1))


def _dice(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(numbers))


class Stream(Generic[R]):
    """Samples of a data set in an order, each made ready by `prepare` in background threads.

    Iterating goes on where the last iterator over this stream stopped.

    Args:
        parts: of the data set.
        fingerprint: of the data set; a state of another one is refused.
        prepare: called in a worker for each entry.
        order: see `Order`.
        workers: threads.
        epochs: end after so many; None never ends.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        fingerprint: str,
        prepare: Callable[[Item], R],
        order: Order | None = None,
        *,
        workers: int = 2,
        epochs: int | None = None,
    ) -> None:
        self.parts, self.fingerprint, self.prepare = tuple(parts), fingerprint, prepare
        self.order, self.workers, self.epochs = order or Order(), max(1, workers), epochs
        self.skipped: Counter[str] = Counter()  # reason -> samples, up to the last one that was taken
        self.examples: dict[str, str] = {}  # reason -> what was wrong with the first one
        self.taken = 0
        self._place = Place()

    def __iter__(self) -> Iterator[R]:
        """
        Raises:
            UnusableError: a whole epoch gave nothing that could be used; the message says why.
        """

        def read(item: Item) -> Iterator[R]:
            yield self.prepare(item)

        used = self._place.epoch  # the last epoch that gave something
        with closing(read_ahead(self._items(), read, workers=self.workers, inputs_ahead=AHEAD * self.workers)) as found:
            for item, result in found:
                if item.epoch > used + self.order.ranks:  # a small share may be empty for some epochs
                    raise self._useless()
                self._place = item.next
                if isinstance(result, BadSample):
                    self.skipped[result.reason] += 1
                    self.examples.setdefault(result.reason, str(result)[:_EXAMPLE])
                elif isinstance(result, Exception):
                    raise result
                else:
                    used = item.epoch
                    self.taken += 1
                    yield result
        if self.taken == 0 and self.skipped:
            raise self._useless()

    def _useless(self) -> UnusableError:
        return UnusableError(f"a whole epoch of the data set has no sample that can be used: {self.report()}")

    def _items(self) -> Iterator[Item]:
        start = self._place
        last = count(start.epoch) if self.epochs is None else range(start.epoch, self.epochs)
        for epoch in last:
            yield from epoch_items(self.parts, self.order, start if epoch == start.epoch else Place(epoch))

    def state(self) -> dict[str, Any]:
        """Where the stream stands behind the last sample that was taken, and what was left out before it; JSON."""
        return {
            "fingerprint": self.fingerprint, "order": asdict(self.order), "place": asdict(self._place),
            "taken": self.taken, "skipped": dict(self.skipped), "examples": dict(self.examples),
        }  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        """Go on behind the sample that was taken last before `state` was asked for.

        Raises:
            InputError: the state is of another data set or another order, or is no state.
        """
        try:
            place, order = Place(**state["place"]), Order(**state["order"])
            fingerprint, taken = state["fingerprint"], int(state["taken"])
            skipped, examples = Counter(state["skipped"]), dict(state["examples"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not the state of a stream of samples ({error!r}). Expected what state() gave."
            ) from error
        if fingerprint != self.fingerprint:
            raise InputError(
                f"the data set changed since this state was saved (fingerprint {fingerprint[:12]}, now "
                f"{self.fingerprint[:12]}). Put it back as it was, or start anew."
            )
        if order != self.order:
            raise InputError(f"this state was saved with {order}, now it is {self.order}. Use the same, or start anew.")
        self._place, self.taken, self.skipped, self.examples = place, taken, skipped, examples

    def report(self) -> str:
        """What was left out, one clause for each reason with an example; "" where nothing was."""
        return "; ".join(
            f"{n} left out: {reason} ({self.examples[reason]})" for reason, n in self.skipped.most_common()
        )
