"""Reading ahead: order, bounds, failures, leaving early."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from midsight.ahead import HELD, read_ahead


def test_results_come_in_order_whatever_takes_long() -> None:
    def read(number: int) -> Iterator[int]:
        time.sleep(0.02 * (3 - number % 4))
        for part in range(number % 3):
            yield 10 * number + part

    found = list(read_ahead(range(12), read, workers=3, inputs_ahead=5))
    assert found == [(n, 10 * n + part) for n in range(12) for part in range(n % 3)]


def test_a_failing_input_is_an_outcome_and_the_rest_follows() -> None:
    def read(number: int) -> Iterator[int]:
        yield number
        if number == 1:
            raise ValueError("broken")
        yield -number

    found = list(read_ahead([0, 1, 2], read, workers=2, inputs_ahead=2))
    assert [(source, str(item)) for source, item in found] == [
        (0, "0"), (0, "0"), (1, "1"), (1, "broken"), (2, "2"), (2, "-2"),
    ]  # fmt: skip
    assert isinstance(found[3][1], ValueError)


def test_reading_ahead_is_bounded() -> None:
    pulled, made = 0, 0

    def sources() -> Iterator[int]:
        nonlocal pulled
        while True:  # endless: only a bounded reader ever returns
            pulled += 1
            yield pulled

    def read(number: int) -> Iterator[int]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield number

    results = read_ahead(sources(), read, workers=2, inputs_ahead=3)
    next(results)
    time.sleep(0.3)
    assert pulled == 3
    assert made <= 2 * (HELD + 1) + 1, "a worker must wait when nobody takes its results"
    results.close()  # type: ignore[attr-defined]


def test_a_reader_goes_on_though_nobody_has_taken_the_end_of_an_input() -> None:
    begun: list[int] = []

    def read(number: int) -> Iterator[int]:
        begun.append(number)
        yield from range(HELD)

    results = read_ahead(range(100), read, workers=1, inputs_ahead=4)
    assert next(results) == (0, 0)
    until = time.monotonic() + 20
    while len(begun) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert begun == [0, 1, 2, 3]
    results.close()  # type: ignore[attr-defined]


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()

    def read(number: int) -> Iterator[int]:
        while True:
            yield number

    results = read_ahead(range(100), read, workers=3, inputs_ahead=6)
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_unfinished_iterator_does_not_keep_python_from_leaving() -> None:
    script = """
import itertools
from midsight.ahead import read_ahead
results = read_ahead(itertools.count(), lambda n: itertools.repeat(n), workers=2, inputs_ahead=4)
print(next(results))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "(0, 0)\n", "")


def test_sources_that_fail_end_the_reading() -> None:
    def sources() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    def read(number: int) -> Iterator[int]:
        yield number

    with pytest.raises(RuntimeError, match="no more"):
        list(read_ahead(sources(), read, workers=1, inputs_ahead=4))


def test_workers_use_one_thread_each_and_leave_the_caller_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = [
            item
            for _, item in read_ahead(range(4), lambda _: iter([torch.get_num_threads()]), workers=2, inputs_ahead=2)
        ]
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [2], "threads of the caller must not inherit the workers' number"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("early", [True, False])
def test_what_threads_wait_for_can_be_ended(early: bool) -> None:
    ended = threading.Event()

    def read(number: int) -> Iterator[int]:
        yield number
        if early:
            assert ended.wait(20), "the caller has left, but nothing ends what is waited for"

    results = read_ahead([1], read, workers=1, inputs_ahead=1, stopped=ended.set)
    assert next(results) == (1, 1)
    if early:
        results.close()
    else:
        assert list(results) == []
    assert ended.is_set()
