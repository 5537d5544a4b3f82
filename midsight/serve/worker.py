"""One thread that owns a model, a bounded queue in front of it, and answers on their way from there to the event loop.

with worker.admit() as ticket:   503 where the queue is full
    job = Job(seconds)
    ticket.start(job, work)      work(job) runs in the model's thread, calls job.put(item), returns the last item
    await job.next()             items in order; 504 when the time is over
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from midsight.serve.errors import ApiError
from midsight.serve.log import LOGGER

Item = TypeVar("Item")
RETRY_SECONDS = 5  # when a client may try again
TOKENS_HINT = "Ask for fewer tokens (max_tokens), or send smaller or fewer pictures"


class Gone(Exception):
    """The client has left."""


class Job(Generic[Item]):
    """Work that was asked for. `put` and `over` are for the model's thread, the rest for the event loop."""

    def __init__(self, seconds: float, hint: str = TOKENS_HINT) -> None:
        self.seconds, self._hint = seconds, hint
        self.deadline = time.monotonic() + seconds
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item | BaseException] = asyncio.Queue()
        self._left = threading.Event()

    def over(self) -> bool:
        """Whether nobody waits for more: the client has gone, or the time is over."""
        return self._left.is_set() or time.monotonic() >= self.deadline

    def leave(self) -> None:
        """Nobody waits for more."""
        self._left.set()

    def put(self, item: Item | BaseException) -> None:
        """Hand over an item, or an error that ends the job."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    async def next(self) -> Item:
        """The next item.

        Raises:
            ApiError: 504 when the time is over, or what the work raised.
        """
        try:
            async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
                item = await self._items.get()
        except TimeoutError:
            self.leave()
            raise self.late() from None
        if isinstance(item, BaseException):
            raise item
        return item

    def late(self) -> ApiError:
        """The error when the time is over."""
        return ApiError(
            504,
            f"no whole answer within {self.seconds:g} seconds, the limit of this server. {self._hint}",
            "timeout",
        )


@contextlib.contextmanager
def watched(request: Request, job: Job[Any]) -> Iterator[None]:
    """While the block runs, a client that leaves ends the job, and `next` raises Gone. The body must have been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.leave()
        job.put(Gone())

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


@contextlib.contextmanager
def left_at_error(job: Job[Any]) -> Iterator[None]:
    """Whatever goes wrong in the block ends the job."""
    try:
        yield
    except BaseException:
        job.leave()
        raise


class Worker:
    """The model's thread.

    Args:
        queue: requests that may wait while one is worked on.
    """

    def __init__(self, queue: int) -> None:
        self._places = queue + 1
        self._taken = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._jobs: set[Job[Any]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="midsight-model")

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return not self._stopped.is_set()

    @contextlib.contextmanager
    def admit(self) -> Iterator["Ticket"]:
        """A place in the queue: for the time of the block, or until the model's thread is done where that is later.

        Raises:
            ApiError: 503, all places are taken.
        """
        with self._lock:
            if self._taken >= self._places:
                raise ApiError(
                    503,
                    f"{self._places} requests are being worked on or wait, the limit of this server. Try again later",
                    "queue_full",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            self._taken += 1
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            if ticket.future is None or ticket.future.cancel():  # not asked for, or not begun
                self.free()

    def submit(self, job: Job[Item], work: Callable[[Job[Item]], Item]) -> "Future[None]":
        """Queue the work of a job."""

        def run() -> None:
            self._jobs.add(job)
            last = self._last(job, work)
            self._jobs.discard(job)
            self.free()  # before the client hears of it, who may ask again at once
            job.put(last)

        return self._thread.submit(run)

    def close(self) -> None:
        """No more work; what runs ends at its next step."""
        self._stopped.set()
        for job in list(self._jobs):
            job.leave()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def free(self) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1

    def _last(self, job: Job[Item], work: Callable[[Job[Item]], Item]) -> Item | ApiError:
        """What ends a job: the last item of its work, or an error."""
        if self._stopped.is_set():
            return ApiError(503, "the server is being stopped", "stopping")
        if job.over():
            return job.late()
        try:
            return work(job)
        except ApiError as error:
            return error
        except Exception:
            LOGGER.exception("an answer failed")
            return ApiError(500, "the server failed; its log says more", "internal_error")


class Ticket:
    """A place in the queue, for one job."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.future: Future[None] | None = None

    def start(self, job: Job[Item], work: Callable[[Job[Item]], Item]) -> None:
        """Queue the work; what it returns is the job's last item."""
        self.future = self._worker.submit(job, work)
