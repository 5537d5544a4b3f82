"""How much is in the server at once: requests, bytes, pictures, seconds of work. More is refused at once.

with places.take(bytes) as place:
    place.add(frames, seconds)     counted until the block ends
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from midsight.serve.errors import ApiError

RETRY_SECONDS = 1  # when a client may try again
PACE_OVER = 2.0  # seconds of work over which the pace is a running mean
MOST_PACE = 20.0
DOOR = 0.95  # part of the work that may wait, behind which requests are refused before they are read


@dataclass(frozen=True)
class Amount:
    """What is in the server, or what may be."""

    requests: int = 0
    bodies: int = 0  # bytes
    frames: int = 0  # pictures and frames
    seconds: float = 0.0  # of the model's time, as far as that is known

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.requests + other.requests,
            self.bodies + other.bodies,
            self.frames + other.frames,
            self.seconds + other.seconds,
        )

    def __neg__(self) -> "Amount":
        return Amount(-self.requests, -self.bodies, -self.frames, -self.seconds)


class Places:
    """What is in the server, with limits. A request that finds nothing else there is taken, whatever its size.

    Seconds of the model's time are what a request is thought to need. How much longer all of it takes (decoding, other
    programs on the machine) is learnt from how fast such seconds are done while others wait.
    """

    def __init__(self, most: Amount) -> None:
        self._most, self._now = most, Amount()
        self._lock = threading.Lock()
        self._pace = 1.0  # real seconds for each that was thought of
        self._since: float | None = None  # monotonic: since when there has been work without a pause

    @property
    def now(self) -> Amount:
        """What is in the server."""
        return self._now

    @contextlib.contextmanager
    def take(self, body_bytes: int) -> Iterator["Place"]:
        """A place for a request, for the time of the block.

        Raises:
            ApiError: 503, there is none.
        """
        wait = self._pace * self._now.seconds
        if wait > DOOR * self._most.seconds:  # whatever is in it, it would be refused with the work of having read it
            raise full(_waits(wait))
        place = Place(self)
        place.add(Amount(1, body_bytes))
        try:
            yield place
        finally:
            self.give_back(place.taken)

    def add(self, more: Amount) -> None:
        """Count more, or nothing at all.

        Raises:
            ApiError: 503, it would be beyond a limit.
        """
        with self._lock:
            now, most = self._now, self._most
            if now.requests and now.requests + more.requests > most.requests:
                raise full(f"{most.requests} requests are being worked on or wait, the limit of this server")
            if now.bodies and more.bodies and now.bodies + more.bodies > most.bodies:
                raise full(f"requests of {most.bodies} bytes in all are being worked on, the limit of this server")
            if now.frames and more.frames and now.frames + more.frames > most.frames:
                raise full(f"{now.frames} pictures and frames wait, the limit of this server is {most.frames}")
            wait = self._pace * now.seconds
            if wait and wait + self._pace * more.seconds > most.seconds:
                raise full(_waits(wait))
            if more.seconds and not now.seconds:
                self._since = time.monotonic()
            self._now = now + more

    def give_back(self, taken: Amount) -> None:
        """Count less; what was taken is done."""
        with self._lock:
            left = self._now + -taken
            self._now = left if left.requests else Amount()  # sums of fractions never end at zero
            if taken.seconds:
                self._learn(taken.seconds)

    def _learn(self, seconds: float) -> None:
        now = time.monotonic()
        if self._since is not None:
            weight = min(1.0, seconds / PACE_OVER)
            self._pace += weight * (min(MOST_PACE, max(1.0, (now - self._since) / seconds)) - self._pace)
        self._since = now if self._now.seconds else None


class Place:
    """What one request takes."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.taken = Amount()

    def add(self, more: Amount) -> None:
        """Take more.

        Raises:
            ApiError: 503, there is too much already.
        """
        self._places.add(more)
        self.taken += more


def _waits(seconds: float) -> str:
    return f"about {seconds:.0f} seconds of work wait, the limit of this server"


def full(what: str) -> ApiError:
    """The answer where the server has enough to do."""
    return ApiError(503, f"{what}. Try again later", "queue_full", headers={"Retry-After": str(RETRY_SECONDS)})
