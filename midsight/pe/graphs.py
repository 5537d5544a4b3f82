"""CUDA graphs of whole passes: one launch instead of hundreds, for batches too small to keep a GPU busy.

A pass is captured when a shape comes for the second time, and replayed from then on. A graph holds bare addresses, so
it keeps alive whatever stands there: its input, the weights and tables (`tensors_in`), and a pool of memory for all
that is made on the way, the workspace of cuBLAS included (`_workspaces_of_its_own`). Weights that are changed in place
are seen by the next replay; whoever owns the graphs drops them when weights move.

A capture frees cuBLAS workspaces, which belong to the process. Passes that come this way wait for it; while it lasts,
no other thread may compute on the GPU.
"""

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Out = TypeVar("Out", Tensor, list[Tensor])
Key = tuple[Any, ...]

MAX_FLOP = 1e12  # of linear maps; with more, a GPU computes for about as long as the host launches (benchmarks/gpu.py)
KEPT = 16  # graphs of one model
_REMEMBERED = 256  # shapes that came once

_lock = threading.RLock()  # graphs share memory and must follow one another
_last: dict[torch.device, torch.cuda.Stream] = {}  # where the device's last replay was launched


class Graphs:
    """The graphs of one model; calls from several threads follow one another."""

    def __init__(self, held: Callable[[], Any] = tuple, kept: int = KEPT) -> None:
        """
        Args:
            held: modules and parts that a captured pass reads beside its input, see `tensors_in`.
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

    def __call__(self, function: Callable[..., Out], x: Tensor, *arguments: Any, small: bool = True) -> Out:
        """`function(x, *arguments)`, which must depend on nothing else that changes.

        Args:
            function: a bound method; its name tells graphs apart.
            x: the input; others of its shape and dtype share a graph.
            arguments: numbers and such, part of the graph.
            small: whether a graph would gain anything.
        """
        if not _can_replay(x):
            return function(x, *arguments)
        key = (function.__name__, tuple(x.shape), x.dtype, x.device, *arguments)
        with _lock:  # also of a pass without a graph: no capture may take its workspace away
            graph = self._find(key, function, x, arguments) if small else None
            return function(x, *arguments) if graph is None else graph.replay(x)

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
        beside = next(iter(self._graphs.values()), None)
        try:
            self._graphs[key] = Graph(function, x, arguments, self._held, beside)
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
    """One captured pass, with an input and an output of its own, and all that it reads."""

    def __init__(
        self,
        function: Callable[..., Any],
        x: Tensor,
        arguments: tuple[Any, ...],
        held: Callable[[], Any],
        beside: "Graph | None" = None,
    ) -> None:
        """Capture; see `Graphs`.

        Args:
            beside: a graph to share memory with, never replayed at the same time.

        Raises:
            RuntimeError: something in the pass cannot be captured, or the memory does not suffice.
        """
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
            self._input = torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)
            # The allocator lends memory by stream, so that sharing a pool takes sharing the stream.
            self.stream: torch.cuda.Stream = torch.cuda.Stream() if beside is None else beside.stream
            self._home = torch.cuda.current_stream()
            self.stream.wait_stream(self._home)
            with torch.cuda.stream(self.stream):
                function(self._input, *arguments)  # kernels are compiled and libraries set up outside of the capture
            self._home.wait_stream(self.stream)
            self._held = tensors_in(held())
            pool = None if beside is None else beside.pool
            with (
                _workspaces_of_its_own(),
                torch.cuda.graph(self._graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self._output = function(self._input, *arguments)
        self.pool: Any = self._graph.pool()

    def replay(self, x: Tensor) -> Any:
        """The pass for another input of the same shape; the result is the caller's own."""
        with torch.cuda.device(x.device):
            here = torch.cuda.current_stream()
            before = _last.get(x.device)
            if before is not None and before != here:
                here.wait_stream(before)  # the buffers are in use until then
            _last[x.device] = here
            if here != self._home:
                self._input.record_stream(here)  # its memory stays until this replay is over
            self._input.copy_(x)
            self._graph.replay()
            if isinstance(self._output, list):
                return [part.clone() for part in self._output]
            return self._output.clone()


@contextlib.contextmanager
def _workspaces_of_its_own() -> Iterator[None]:
    """Have cuBLAS take its workspaces from the graph's own pool, and leave them there.

    torch keeps one for each stream of a process and never asks who still holds its address. The one of the pass before
    the capture lies in common memory; the first `torch.compile` with CUDA graphs of its own, or any other caller of
    `_cuda_clearCublasWorkspaces`, would free it, and the next replay would write there.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()  # back to the pool, so that nobody else computes in it


def tensors_in(*owners: Any) -> list[Tensor]:
    """All tensors of modules, lists, mappings and plain objects, under names of their own.

    Aliases: they keep the memory also where a parameter is given other memory.
    """
    found: dict[int, Tensor] = {}
    seen: dict[int, Any] = {}

    def visit(owner: Any) -> None:
        if id(owner) in seen:
            return
        seen[id(owner)] = owner
        if isinstance(owner, Tensor):
            found[id(owner)] = owner.detach()
        elif isinstance(owner, nn.Module):
            visit([*owner.parameters(), *owner.buffers()])
        elif isinstance(owner, list | tuple):
            for part in owner:
                visit(part)
        elif isinstance(owner, dict) or hasattr(owner, "__dict__"):
            visit(list((owner if isinstance(owner, dict) else vars(owner)).values()))

    visit(owners)
    return list(found.values())


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
