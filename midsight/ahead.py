"""Reading ahead: several threads read inputs while the caller works on earlier ones; order kept, memory bounded."""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

S = TypeVar("S")
R = TypeVar("R")

HELD = 2  # results of one input that may wait for the caller
_POLL = 0.1  # seconds between looks at the stop sign


@dataclass
class _Lane(Generic[S, R]):
    """One input and the results of it that are ready. `None` marks the end, an exception what ended it early."""

    source: S
    ready: "queue.SimpleQueue[R | BaseException | None]" = field(default_factory=queue.SimpleQueue)
    places: "queue.SimpleQueue[None]" = field(default_factory=queue.SimpleQueue)  # one for each result that may come

    def __post_init__(self) -> None:
        for _ in range(HELD):
            self.places.put(None)


def read_ahead(
    sources: Iterable[S],
    read: Callable[[S], Iterator[R]],
    *,
    workers: int,
    inputs_ahead: int,
    stopped: Callable[[], None] = lambda: None,
) -> Generator[tuple[S, R | Exception], None, None]:
    """Results of `read(source)` for each source, in order.

    `sources` is advanced in the caller's thread. On each input a worker runs at most `HELD` results ahead of it. At the
    end, also an early one, `stopped` is called before the threads are waited for; it may end what they wait for.

    Yields:
        (source, result), and where `read` raised, (source, exception), after which the next source follows.
    """
    stop = threading.Event()
    lanes: deque[_Lane[S, R]] = deque()
    tasks: queue.SimpleQueue[_Lane[S, R] | None] = queue.SimpleQueue()
    threads: list[threading.Thread] = []
    caller_threads = torch.get_num_threads()
    remaining = iter(sources)
    try:
        while True:
            for source in itertools.islice(remaining, inputs_ahead - len(lanes)):
                lane: _Lane[S, R] = _Lane(source)
                lanes.append(lane)
                tasks.put(lane)
                if len(threads) < workers:
                    # A daemon: somebody who holds on to an unfinished iterator must still be able to leave Python.
                    thread = threading.Thread(target=_work, args=(tasks, read, stop), name="midsight-read", daemon=True)
                    threads.append(thread)
                    thread.start()
            if not lanes:
                return
            lane = lanes.popleft()
            while (item := lane.ready.get()) is not None:
                lane.places.put(None)
                if isinstance(item, BaseException) and not isinstance(item, Exception):
                    raise item
                yield lane.source, item
    finally:
        stop.set()
        stopped()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread is not threading.current_thread():  # an abandoned iterator can be collected in a worker
                thread.join()
        torch.set_num_threads(caller_threads)  # threads started later take over the last number that was set


def _work(
    tasks: "queue.SimpleQueue[_Lane[S, R] | None]", read: Callable[[S], Iterator[R]], stop: threading.Event
) -> None:
    # One thread each: a team of threads per worker would fight with the encoder for the same cores.
    torch.set_num_threads(1)
    while not stop.is_set() and (lane := tasks.get()) is not None:
        _fill(lane, read, stop)


def _fill(lane: _Lane[S, R], read: Callable[[S], Iterator[R]], stop: threading.Event) -> None:
    try:
        for item in read(lane.source):
            if not _put(lane, item, stop):
                return
    except BaseException as error:  # noqa: BLE001 (handed to the caller's thread)
        lane.ready.put(error)
    lane.ready.put(None)  # needs no place: the next input is begun though nobody has come to the end of this one


def _put(lane: _Lane[S, R], item: R, stop: threading.Event) -> bool:
    """Waits for a free place; False where the caller has left."""
    while not stop.is_set():
        try:
            lane.places.get(timeout=_POLL)
        except queue.Empty:
            continue
        lane.ready.put(item)
        return True
    return False
