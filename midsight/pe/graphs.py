"""CUDA graphs of whole passes: one launch instead of hundreds, for batches too small to keep a GPU busy.

A pass is captured when a shape comes for the second time, and replayed from then on. Graphs hold addresses, so whoever
owns them drops them when weights move; weights that are changed in place are seen by the next replay.
"""

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Out = TypeVar("Out", Tensor, list[Tensor])
Key = tuple[Any, ...]

MAX_FLOP = 5e11  # a pass of more work in its linear maps keeps the GPU busy by itself
KEPT = 16  # graphs of one model
_REMEMBERED = 256  # shapes that came once

_lock = threading.RLock()  # graphs share memory and must follow one another
_last: dict[torch.device, torch.cuda.Stream] = {}  # where the device's last replay was launched


class Graphs:
    """The graphs of one model; calls from several threads follow one another."""

    def __init__(self, held: Callable[[], Any] = tuple, kept: int = KEPT) -> None:
        """
        Args:
            held: what a captured pass reads beside its input (weights, tables), kept alive with the graph.
            kept: graphs to keep; the one that was not used for longest goes first.
        """
        self._held, self._kept = held, kept
        self._graphs: OrderedDict[Key, Graph] = OrderedDict()
        self._seen: OrderedDict[Key, bool] = OrderedDict()  # what came, and whether it may be captured
        self._warned = False

    def __len__(self) -> int:
        return len(self._graphs)

    def clear(self) -> None:
        """Forget all graphs."""
        with _lock:
            self._graphs.clear()
            self._seen.clear()

    def __call__(self, function: Callable[..., Out], x: Tensor, *arguments: Any) -> Out:
        """`function(x, *arguments)`, which must depend on nothing else that changes.

        Args:
            function: a bound method; its name tells graphs apart.
            x: the input; others of its shape and dtype share a graph.
            arguments: numbers and such, part of the graph.
        """
        if not _can_replay(x):
            return function(x, *arguments)
        key = (function.__name__, tuple(x.shape), x.dtype, x.device, *arguments)
        with _lock:
            graph = self._find(key, function, x, arguments)
            if graph is not None:
                return graph.replay(x)
        return function(x, *arguments)

    def _find(self, key: Key, function: Callable[..., Any], x: Tensor, arguments: tuple[Any, ...]) -> "Graph | None":
        """The graph for a key, captured now where the key is known; None where there is none."""
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        allowed = self._seen.get(key)
        self._seen[key] = allowed is not False
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        if not allowed:  # new, or known to fail
            return None
        pool = next(iter(self._graphs.values())).pool if self._graphs else None
        try:
            self._graphs[key] = Graph(function, x, arguments, self._held, pool)
        except RuntimeError as error:
            self._seen[key] = False
            _recover(x)
            self._warn(key, error)
            return None
        if len(self._graphs) > self._kept:
            torch.cuda.synchronize(x.device)  # its last replay may still run
            self._graphs.popitem(last=False)
        return self._graphs[key]

    def _warn(self, key: Key, error: RuntimeError) -> None:
        """Once for each model."""
        if not self._warned:
            self._warned = True
            warnings.warn(f"no CUDA graph of {key[0]} for {key[1]}: {error}; it runs without", stacklevel=5)


class Graph:
    """One captured pass, with an input and an output of its own."""

    def __init__(
        self,
        function: Callable[..., Any],
        x: Tensor,
        arguments: tuple[Any, ...],
        held: Callable[[], Any],
        pool: Any = None,
    ) -> None:
        """Capture; see `Graphs`.

        Raises:
            RuntimeError: something in the pass cannot be captured, or the memory does not suffice.
        """
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
            self._input = torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(here)
            with torch.cuda.stream(side):
                function(self._input, *arguments)  # kernels are compiled and libraries set up outside of the capture
            here.wait_stream(side)
            self._held = held()
            with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                self._output = function(self._input, *arguments)
        self.pool = self._graph.pool()

    def replay(self, x: Tensor) -> Any:
        """The pass for another input of the same shape; the result is the caller's own."""
        with torch.cuda.device(x.device):
            here = torch.cuda.current_stream()
            before = _last.get(x.device)
            if before is not None and before != here:
                here.wait_stream(before)  # the buffers are in use until then
            _last[x.device] = here
            self._input.copy_(x)
            self._graph.replay()
            if isinstance(self._output, list):
                return [part.clone() for part in self._output]
            return self._output.clone()


def _recover(x: Tensor) -> None:
    """After a capture that failed: torch's generator of random numbers thinks it is captured until one succeeds."""
    if not x.is_cuda:
        return
    with contextlib.suppress(RuntimeError), torch.no_grad(), torch.cuda.device(x.device):
        small = torch.zeros(1, device=x.device)
        with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
            small.add_(1)


def _can_replay(x: Tensor) -> bool:
    """Whether a replay would do what a call does here."""
    return (
        x.is_cuda
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cuda")
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )
