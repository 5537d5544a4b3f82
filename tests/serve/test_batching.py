"""Batches across requests: who shares one, in which order, what is dropped, and what a full memory does."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import midsight
from midsight.serve.batching import Batcher, Kind, Piece, is_out_of_memory
from midsight.serve.errors import ApiError
from midsight.serve.metrics import Metrics
from tests.serve import server
from tests.serve.server import data_url, file

IMAGE, TEXT = Kind("image"), Kind("text")
WORDS = ("cat", "dog", "car", "sea", "cup")


class Caller:
    """A request that waits: what it was given, and whether it still waits."""

    def __init__(self, seconds: float = 60) -> None:
        self.got: dict[int, Any] = {}
        self.errors: list[BaseException] = []
        self.gone = False
        self.deadline = time.monotonic() + seconds

    def over(self) -> bool:
        return self.gone or time.monotonic() >= self.deadline

    def put(self, item: Any) -> None:
        if isinstance(item, BaseException):
            self.errors.append(item)
        else:
            self.got[item[0]] = item[1]


class Bench:
    """A batcher that multiplies by ten, and stops in front of each batch until it is let go on."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[tuple[str, list[Any]]] = []
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.most = 10**9  # values that the memory lasts for
        self.metrics = Metrics()
        self.batcher = Batcher(self.work, {"image": 4, "text": 8}, self.metrics, **options)

    def work(self, kind: Kind, values: list[Any], size: int) -> list[Any]:
        self.entered.release()
        assert self.go.acquire(timeout=20)
        self.batches.append((kind.name, list(values)))
        if "broken" in values:
            raise ValueError("a secret")
        if len(values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [ApiError(400, "not this one") if value == "bad" else 10 * value for value in values]

    def submit(self, caller: Caller, kind: Kind, *values: Any, cost: int = 1) -> None:
        pieces = [Piece(index, value, cost) for index, value in enumerate(values)]
        self.batcher.submit(caller, kind, pieces)  # type: ignore[arg-type]

    def occupy(self) -> None:
        """Let a first batch begin, so that what comes next gathers."""
        self.submit(Caller(), IMAGE, 0)
        assert self.entered.acquire(timeout=20)

    def run(self, batches: int) -> None:
        self.go.release(batches)
        server.until(lambda: len(self.batches) >= batches)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.go.release(1000)
    bench.batcher.close()


def test_what_gathers_is_one_batch_and_each_gets_its_own(bench: Bench) -> None:
    bench.occupy()
    callers = [Caller() for _ in range(3)]
    for number, caller in enumerate(callers):
        bench.submit(caller, IMAGE, number + 1)
    bench.run(2)
    assert bench.batches == [("image", [0]), ("image", [1, 2, 3])]
    server.until(lambda: all(caller.got for caller in callers))
    assert [caller.got for caller in callers] == [{0: 10}, {0: 20}, {0: 30}]
    assert 'midsight_batch_size_sum{kind="image"} 4.0' in bench.metrics.text().decode()


def test_requests_and_kinds_take_turns(bench: Bench) -> None:
    bench.occupy()
    long, short, text, other = (Caller() for _ in range(4))
    bench.submit(long, IMAGE, 1, 2, 3, 4, 5, 6)
    bench.submit(short, IMAGE, 7)
    bench.submit(text, TEXT, 8, 9)
    bench.submit(other, Kind("text", ("a {c}",)), 10)
    bench.run(5)
    assert bench.batches[1:] == [
        ("image", [1, 7, 2, 3]),  # the short request is not behind the long one
        ("text", [8, 9]),  # and texts not behind all pictures
        ("text", [10]),  # other templates, another batch
        ("image", [4, 5, 6]),
    ]
    server.until(lambda: len(long.got) == 6)
    assert long.got == {index: 10 * (index + 1) for index in range(6)}


def test_a_batch_costs_no_more_than_its_size_unless_a_single_piece_does(bench: Bench) -> None:
    bench.occupy()
    bench.submit(Caller(), IMAGE, 1, 2, 3, cost=2)
    bench.submit(Caller(), IMAGE, 4, cost=9)
    bench.run(4)
    assert [values for _, values in bench.batches[1:]] == [[1], [4], [2, 3]]


def test_work_that_nobody_waits_for_is_dropped(bench: Bench) -> None:
    bench.occupy()
    gone, late, there = Caller(), Caller(seconds=0.01), Caller()
    for caller in (gone, late, there):
        bench.submit(caller, IMAGE, 1, 2)
    gone.gone = True
    time.sleep(0.02)
    bench.run(2)
    server.until(lambda: len(there.got) == 2)
    assert bench.batches[1:] == [("image", [1, 2])]
    assert not gone.got
    assert not late.got
    told = bench.metrics.text().decode()
    assert 'midsight_dropped_total{reason="gone"} 2.0' in told
    assert 'midsight_dropped_total{reason="late"} 2.0' in told


def test_a_full_memory_halves_the_batch_and_gives_the_same(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.most = 1
    bench.occupy()
    caller, after = Caller(), Caller()
    bench.submit(caller, IMAGE, 1, 2, 3, 4)
    bench.go.release(100)
    server.until(lambda: len(caller.got) == 4)
    assert caller.got == {0: 10, 1: 20, 2: 30, 3: 40}
    assert [len(values) for _, values in bench.batches[1:]] == [4, 2, 1, 1, 1, 1]
    assert "batches of image are now of 1" in caplog.text
    bench.submit(after, IMAGE, 5, 6)
    server.until(lambda: len(after.got) == 2)
    assert [len(values) for _, values in bench.batches[7:]] == [1, 1]  # it does not try again what failed


def test_a_memory_too_small_for_one_piece_is_told(bench: Bench) -> None:
    bench.most = 0
    caller = Caller()
    bench.submit(caller, IMAGE, 1)
    bench.go.release(100)
    server.until(lambda: bool(caller.errors))
    error = caller.errors[0]
    assert isinstance(error, ApiError)
    assert (error.status, error.code, "Retry-After" in error.headers) == (503, "out_of_memory", True)


def test_errors_reach_their_request_and_the_next_batch_runs(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.occupy()
    bad, good = Caller(), Caller()
    bench.submit(bad, IMAGE, "bad")
    bench.submit(good, IMAGE, 1)
    bench.run(2)
    server.until(lambda: bool(good.got and bad.errors))
    assert str(bad.errors[0]) != ""
    assert isinstance(bad.errors[0], ApiError)
    assert bad.errors[0].status == 400
    broken, after = Caller(), Caller()
    bench.submit(broken, IMAGE, "broken")
    bench.run(3)
    server.until(lambda: bool(broken.errors))
    assert isinstance(broken.errors[0], ApiError)
    assert (broken.errors[0].status, broken.errors[0].code) == (500, "internal_error")
    assert "secret" in caplog.text
    assert "secret" not in broken.errors[0].message
    bench.submit(after, IMAGE, 2)
    bench.run(4)
    server.until(lambda: after.got == {0: 20})


def test_idle_time_is_told_once_and_work_goes_on_afterwards() -> None:
    idle: list[float] = []
    bench = Bench(idle=(0.05, lambda: idle.append(time.monotonic())))
    bench.go.release(1000)
    for turn in range(1, 3):
        server.until(lambda: len(idle) == turn)  # noqa: B023
        time.sleep(0.15)
        assert len(idle) == turn
        caller = Caller()
        bench.submit(caller, IMAGE, turn)
        server.until(lambda: bool(caller.got))  # noqa: B023
    bench.batcher.close()


def test_the_end_is_told_to_what_waits() -> None:
    bench = Bench()
    bench.occupy()
    waits, late = Caller(), Caller()
    bench.submit(waits, IMAGE, 1)
    closing = threading.Thread(target=bench.batcher.close)
    closing.start()
    server.until(lambda: not bench.batcher.ready)
    bench.go.release(1)
    closing.join(20)
    bench.submit(late, IMAGE, 1)
    for caller in (waits, late):
        assert isinstance(caller.errors[0], ApiError)
        assert caller.errors[0].status == 503


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_torch_says_that_the_memory_is_out_as_is_expected() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_results_are_those_of_single_calls_whatever_they_were_batched_with() -> None:
    """With the embedded model, by many clients at once: texts, pictures and clips in one crowd."""
    model = midsight.load(device="cpu", threads=1)
    texts = [f"a photo of {word}" * (1 + number % 2) for number, word in enumerate(WORDS)]
    files = [file(seed, "jpeg", height=50 + 10 * seed, width=80) for seed in range(5)]
    expected = [model.embed_texts(text)[0] for text in texts] + [model.embed_images(data)[0] for data in files]
    inputs = [*texts, *(data_url(data) for data in files)]
    with server.serving_encoder(midsight.checkpoints.EMBEDDED, batch_size=4) as served, ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda number: served.embed(inputs[number % 10])[0], range(40)))
        told = served.encoder.metrics.text().decode()
    for number, row in enumerate(found):
        np.testing.assert_allclose(row, expected[number % 10], atol=1e-5)
    batches, pictures = (_figure(told, f'midsight_batch_size_{name}{{kind="image"}}') for name in ("count", "sum"))
    assert pictures == 20
    assert batches < 15  # some did share one


def _figure(told: str, name: str) -> float:
    return float(next(line.split()[-1] for line in told.splitlines() if line.startswith(name)))


def test_out_of_memory_at_a_batch_ends_with_the_same_numbers(
    tiny_folder: Path, tiny_model: midsight.Perception, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file(seed) for seed in range(8)]
    expected = tiny_model.embed_images(files)
    with server.serving_encoder(tiny_folder, batch_size=8) as served:
        model = served.encoder._model
        assert model is not None
        real, sizes = model._encode, []

        def small(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 2:
                raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12345 bytes")
            return real(images)

        monkeypatch.setattr(model, "_encode", small)
        found = served.embed(*[data_url(data) for data in files])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert max(sizes) > 2
