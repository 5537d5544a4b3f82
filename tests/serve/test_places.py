"""How much is let in."""

import time

import pytest

from midsight.serve.errors import ApiError
from midsight.serve.places import Amount, Places


def test_each_limit_refuses_and_places_come_back() -> None:
    places = Places(Amount(2, 100, 10, 5.0))
    with places.take(40) as first:
        with places.take(40) as second:
            with pytest.raises(ApiError, match="2 requests are being worked on") as caught, places.take(1):
                pass
            assert (caught.value.status, caught.value.code, caught.value.headers) == (
                503,
                "queue_full",
                {"Retry-After": "1"},
            )
            first.add(Amount(frames=8))
            with pytest.raises(ApiError, match="8 pictures and frames wait, the limit of this server is 10"):
                second.add(Amount(frames=3))
            second.add(Amount(frames=2, seconds=4.0))
            with pytest.raises(ApiError, match="about 4 seconds of work wait"):
                first.add(Amount(seconds=2.0))
            assert places.now == Amount(2, 80, 10, 4.0)
        assert places.now == Amount(1, 40, 8, 0.0)
        with pytest.raises(ApiError, match="requests of 100 bytes"), places.take(61):
            pass
    assert places.now == Amount()


def test_a_large_request_alone_is_taken() -> None:
    places = Places(Amount(2, 100, 10, 5.0))
    with places.take(1000) as place:
        place.add(Amount(frames=1000, seconds=1000.0))
        with pytest.raises(ApiError, match="seconds of work wait"), places.take(0):
            pass  # nobody is let in to wait behind it
    assert places.now == Amount()


def test_the_real_pace_is_learnt_while_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a second that was thought of takes three, less is let in; a pause does not count."""
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    places = Places(Amount(100, 100, 100, 6.0))

    def work(seconds: float, took: float) -> None:
        nonlocal clock
        with places.take(0) as place:
            place.add(Amount(seconds=seconds))
            clock += took

    work(1.0, 1.0)
    clock += 1000  # nobody asks
    work(1.0, 1.0)
    with places.take(0) as place:
        place.add(Amount(seconds=4.0))  # as fast as thought: 4 of 6 seconds
        with places.take(0) as other:
            other.add(Amount(seconds=1.0))
    clock += 1000
    for _ in range(20):
        work(1.0, 3.0)
    with places.take(0) as place, places.take(0) as other:
        place.add(Amount(seconds=1.5))
        with pytest.raises(ApiError, match="about 4 seconds of work wait"):
            other.add(Amount(seconds=1.5))


def test_a_line_that_is_nearly_full_refuses_before_a_request_is_read() -> None:
    places = Places(Amount(100, 100, 100, 5.0))
    with places.take(0) as first, places.take(0) as second:
        first.add(Amount(seconds=4.7))
        with places.take(0):
            pass
        second.add(Amount(seconds=0.2))
        with pytest.raises(ApiError, match="about 5 seconds of work wait"), places.take(0):
            pass
    with places.take(0):
        pass
