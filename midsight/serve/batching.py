"""What waits is joined to batches, across requests; one thread works on them.

batcher = Batcher(work, sizes={"image": 8, "text": 64})
batcher.submit(job, Kind("image"), [Piece(0, pixels)])    job.next() then gives (0, result)

While a batch is worked on, others gather, so that nothing ever waits only for company. Kinds take turns, and so do
requests within a kind: a long request holds up no short one. Work that nobody waits for any more is dropped.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from midsight.api.memory import free_memory, is_out_of_memory
from midsight.errors import MidsightError
from midsight.serve.errors import ApiError
from midsight.serve.log import LOGGER
from midsight.serve.metrics import Metrics
from midsight.serve.places import RETRY_SECONDS
from midsight.serve.worker import Job
from midsight.threads import step_back

SMOOTHING = 0.2  # weight of the last batch in the running mean of what a piece takes


class Kind(NamedTuple):
    """What can be in one batch."""

    name: str  # "image", "text"
    detail: Hashable = None  # pieces of different details never share a batch


@dataclass(frozen=True)
class Piece:
    """One value that waits for the model."""

    index: int  # among those of its request
    value: Any
    cost: int = 1  # how much of a batch it fills


Work = Callable[[Kind, list[Any], int], Sequence[Any]]  # kind, values, most at once -> results or errors, in order


@dataclass
class _Line:
    """Pieces of one kind, by request."""

    requests: deque[tuple[Job[Any], deque[Piece]]] = field(default_factory=deque)

    def take(self, most: int, dropped: Callable[[Job[Any], int], None]) -> list[tuple[Job[Any], Piece]]:
        """Pieces for a batch, one of each request in turn; requests that nobody waits for go."""
        taken: list[tuple[Job[Any], Piece]] = []
        cost = 0
        while self.requests:
            job, pieces = self.requests[0]
            if job.over():
                self.requests.popleft()
                dropped(job, len(pieces))
                continue
            if taken and cost + pieces[0].cost > most:
                break
            taken.append((job, pieces.popleft()))
            cost += taken[-1][1].cost
            self.requests.popleft()
            if pieces:
                self.requests.append((job, pieces))
        return taken


class Batcher:
    """One thread, and what waits for it.

    Args:
        work: a batch's results in its order; an exception among them is that piece's alone. Called in the thread.
        sizes: kind -> what a batch may cost. Halved for good where the memory does not last.
        metrics: are told of each batch.
        idle: seconds without work, and what the thread then calls once.
    """

    def __init__(
        self,
        work: Work,
        sizes: Mapping[str, int],
        metrics: Metrics,
        idle: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        self._work, self._sizes, self._metrics = work, dict(sizes), metrics
        self._idle, self._is_idle = idle, False
        self._lines: OrderedDict[Kind, _Line] = OrderedDict()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds: dict[str, float] = {}  # kind -> of a batch, by cost
        self._thread = threading.Thread(target=self._run, name="midsight-encoder", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return not self._stopped

    def seconds(self, kind: str) -> float:
        """What one unit of cost takes, as far as is known; 0 before the first batch."""
        return self._seconds.get(kind, 0.0)

    def submit(self, job: Job[Any], kind: Kind, pieces: Sequence[Piece]) -> None:
        """Queue pieces of a request; `job.next()` gives (index, result) for each, in any order. From any thread."""
        with self._changed:
            if self._stopped:
                job.put(stopping())
            elif pieces:
                self._lines.setdefault(kind, _Line()).requests.append((job, deque(pieces)))
                self._changed.notify()

    def close(self) -> None:
        """No more work; the batch that runs is finished, what waits is told."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        for line in self._lines.values():
            for job, _ in line.requests:
                job.put(stopping())
        self._lines.clear()

    def _run(self) -> None:
        step_back()  # the event loop, which refuses what is too much, must not wait for it
        while (batch := self._next()) is not None:
            self._answer(*batch)
            del batch  # its pixels would stay until the next one comes

    def _next(self) -> tuple[Kind, list[tuple[Job[Any], Piece]]] | None:
        """The next batch; None at the end."""
        while True:
            with self._changed:
                while not self._lines and not self._stopped:
                    wait = None if self._idle is None or self._is_idle else self._idle[0]
                    if not self._changed.wait(wait):
                        break
                if self._stopped:
                    return None
                for kind in list(self._lines):
                    line = self._lines.pop(kind)
                    taken = line.take(self._sizes[kind.name], self._dropped)
                    if line.requests:
                        self._lines[kind] = line  # behind the other kinds
                    if taken:
                        self._is_idle = False
                        return kind, taken
                if self._lines or self._idle is None or self._is_idle:
                    continue
                self._is_idle = True
            self._idle[1]()

    def _dropped(self, job: Job[Any], pieces: int) -> None:
        self._metrics.dropped("late" if time.monotonic() >= job.deadline else "gone", pieces)

    def _answer(self, kind: Kind, batch: list[tuple[Job[Any], Piece]]) -> None:
        start, cost = time.monotonic(), sum(piece.cost for _, piece in batch)
        try:
            results = self._results(kind, [piece for _, piece in batch])
        except Exception as error:
            told = _told(error)
            for job, _ in batch:
                job.put(told)
            return
        took = time.monotonic() - start
        known = self._seconds.get(kind.name)
        self._seconds[kind.name] = took / cost if known is None else known + SMOOTHING * (took / cost - known)
        self._metrics.batch(kind.name, cost, took)
        for (job, piece), result in zip(batch, results, strict=True):
            job.put(_told(result) if isinstance(result, Exception) else (piece.index, result))

    def _results(self, kind: Kind, pieces: list[Piece]) -> list[Any]:
        """Results of pieces, in batches that the memory lasts for."""
        size = self._sizes[kind.name]
        groups = list(_groups(pieces, size))
        if len(groups) > 1:
            return [result for group in groups for result in self._results(kind, group)]
        try:
            return list(self._work(kind, [piece.value for piece in pieces], size))
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        # behind the block: until then the error holds the frames that hold the memory
        self._sizes[kind.name] = size // 2
        LOGGER.warning("out of memory: batches of %s are now of %d", kind.name, size // 2)
        free_memory()
        return self._results(kind, pieces)


def _groups(pieces: list[Piece], most: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in pieces:
        if group and sum(other.cost for other in group) + piece.cost > most:
            yield group
            group = []
        group.append(piece)
    yield group


def stopping() -> ApiError:
    """The answer of a server that ends."""
    return ApiError(503, "the server is being stopped", "stopping", headers={"Retry-After": "5"})


def _told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if is_out_of_memory(error):
        LOGGER.error("out of memory with a single piece")
        retry = {"Retry-After": str(RETRY_SECONDS)}
        return ApiError(503, "the memory of the server does not last. Try again later", "out_of_memory", headers=retry)
    if isinstance(error, MidsightError):
        LOGGER.error("an input has no result: %s", error)
    else:
        LOGGER.error("a batch failed", exc_info=error)
    return ApiError(500, "the server failed; its log says more", "internal_error")
