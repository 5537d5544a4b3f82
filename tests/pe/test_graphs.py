"""When a pass is captured, replayed, forgotten or left alone; a stand-in for the graph itself runs anywhere.

Real graphs: test_cuda.py.
"""

import threading
import warnings

import pytest
import torch
from torch import Tensor

from midsight.pe import graphs


class Recorded:
    """A graph that says what was done with it."""

    made: list["Recorded"] = []

    def __init__(self, function, x, arguments, held, beside=None) -> None:
        self.function, self.arguments, self.beside, self.held = function, arguments, beside, held()
        self.replays = 0
        Recorded.made.append(self)

    def replay(self, x: Tensor) -> Tensor:
        self.replays += 1
        return self.function(x, *self.arguments)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """Graphs made so far, on a device that takes them."""
    Recorded.made = []
    monkeypatch.setattr(graphs, "Graph", Recorded)
    monkeypatch.setattr(graphs, "_can_replay", lambda x: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return Recorded.made


def plus(x: Tensor, number: float = 1) -> Tensor:
    return x + number


def test_a_shape_is_captured_when_it_comes_again(made: list[Recorded]) -> None:
    run, x = graphs.Graphs(), torch.rand(2, 3)
    assert torch.equal(run(plus, x), x + 1)
    assert not made
    assert torch.equal(run(plus, x * 2), x * 2 + 1)
    assert [graph.replays for graph in made] == [1]
    run(plus, x)
    assert [graph.replays for graph in made] == [2]


def test_shape_dtype_function_and_arguments_tell_graphs_apart(made: list[Recorded]) -> None:
    def minus(x: Tensor, number: float = 1) -> Tensor:
        return x - number

    run, x = graphs.Graphs(), torch.rand(2, 3)
    passes = [(plus, x, 1), (plus, x, 2), (minus, x, 1), (plus, x[:1], 1), (plus, x.double(), 1)]
    for _ in range(3):
        for function, value, number in passes:
            assert torch.equal(run(function, value, number), function(value, number))
    assert len(made) == len(run) == len(passes)
    assert all(graph.replays == 2 for graph in made)


def test_the_least_used_graph_goes_and_memory_is_shared(made: list[Recorded]) -> None:
    run = graphs.Graphs(kept=2)
    a, b, c = torch.rand(1), torch.rand(2), torch.rand(3)
    for x in (a, a, b, b, a, c, c):
        run(plus, x)
    assert len(run) == 2
    first, second, third = made
    assert (first.beside, second.beside, third.beside) == (None, first, second)  # of a graph that is alive
    run(plus, a)
    assert first.replays == 3
    run(plus, b)  # it went; known as it is, it is captured anew
    assert len(made) == 4


def test_shapes_that_came_once_are_forgotten_in_the_end(made: list[Recorded]) -> None:
    run = graphs.Graphs()
    for size in range(1, graphs._REMEMBERED + 3):
        run(plus, torch.rand(size))
    run(plus, torch.rand(1))
    assert not made
    run(plus, torch.rand(graphs._REMEMBERED))
    assert len(made) == 1


def test_clear_forgets_everything(made: list[Recorded]) -> None:
    run, x = graphs.Graphs(), torch.rand(2)
    for _ in range(2):
        run(plus, x)
    run.clear()
    assert len(run) == 0
    run(plus, x)
    assert len(made) == 1


def test_what_a_graph_reads_is_kept_alive(made: list[Recorded]) -> None:
    run, weights = graphs.Graphs(lambda: ["weights"]), torch.rand(2)
    for _ in range(2):
        run(plus, weights)
    assert made[0].held == ["weights"]


def test_a_capture_that_fails_is_told_once_and_not_tried_again(
    made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(*arguments: object) -> None:
        tries.append(arguments)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "Graph", fail)
    run, x = graphs.Graphs(), torch.rand(2)
    run(plus, x)
    with pytest.warns(UserWarning, match=r"no CUDA graph of plus for \(2,\): operation not permitted") as told:
        assert torch.equal(run(plus, x), x + 1)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (x, x[:1], x[:1]):  # another shape fails silently
            assert torch.equal(run(plus, value), value + 1)
    assert len(tries) == 2


def test_threads_follow_one_another(made: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []

    def replay(self: Recorded, x: Tensor) -> Tensor:
        inside.append(1)
        assert len(inside) == 1, "two replays at once"
        found = self.function(x, *self.arguments)
        inside.pop()
        return found

    monkeypatch.setattr(Recorded, "replay", replay)
    run, x, failed = graphs.Graphs(), torch.rand(64), []

    def work(number: int) -> None:
        for turn in range(50):
            if not torch.equal(run(plus, x * number), x * number + 1):
                failed.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(made) == 1


def test_large_passes_are_not_captured_and_wait_for_captures(made: list[Recorded]) -> None:
    run, x, held = graphs.Graphs(), torch.rand(2), []

    def owned(x: Tensor) -> Tensor:
        held.append(graphs._lock._is_owned())  # type: ignore[attr-defined]
        return x

    for _ in range(3):
        run(owned, x, small=False)
    assert held == [True] * 3
    assert not made


def test_a_cpu_has_no_graphs() -> None:
    run, x = graphs.Graphs(), torch.rand(2)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(run(plus, x), x + 1)
    assert len(run) == 0
