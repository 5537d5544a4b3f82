"""Whose memory a graph stands on. A stand-in for CUDA keeps what torch keeps: streams, pools, workspaces of cuBLAS.

Real graphs: test_cuda.py.
"""

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from midsight import pe
from midsight.pe import graphs
from midsight.pe.gpu import GpuText, GpuTower, graphs_of
from tests.pe import tiny
from tests.pe.test_packed import TEXTS, token_rows


class Workspace:
    """A block that cuBLAS computes in: of a graph's pool, or of the memory that is common to all."""

    def __init__(self, pool: object | None) -> None:
        self.pool, self.freed = pool, False


class Reads(TorchDispatchMode):
    """Addresses of memory that operations read and that none of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()
        self._made: set[int] = set()
        self._alive: list[Tensor] = []  # so that no address is given out twice

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.read |= addresses((arguments, named)) - self._made
        found = operation(*arguments, **(named or {}))
        self._made |= addresses(found) - self.read
        self._alive += [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        return found


def addresses(tree: Any) -> set[int]:
    """Where the memory of all tensors begins."""
    return {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        pass


class Cuda:
    """The part of `torch.cuda` that graphs use."""

    def __init__(self) -> None:
        self.now = Stream()
        self.capturing: Captured | None = None
        self.workspaces: dict[Stream, Workspace] = {}  # as torch has them: kept by stream, freed on demand

    def clear_workspaces(self) -> None:
        for workspace in self.workspaces.values():
            workspace.freed = workspace.pool is None  # a pool stays as long as its graphs
        self.workspaces.clear()

    def product(self, x: Tensor) -> Tensor:
        """A pass that needs a workspace."""
        pool = self.capturing.pool() if self.capturing else None
        workspace = self.workspaces.setdefault(self.now, Workspace(pool))
        assert not workspace.freed
        if self.capturing:
            self.capturing.workspaces.append(workspace)
        else:
            assert workspace.pool is None, "a pass outside computes in a graph's pool"
        return x @ x.T

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    @contextlib.contextmanager
    def graph(self, graph: "Captured", pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        graph.shared = graph.shared if pool is None else pool
        with self.stream(stream), graph.reads:
            self.capturing = graph
            try:
                yield
            finally:
                self.capturing = None


class Captured:
    """A `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.workspaces: list[Workspace] = []
        self.reads, self.shared = Reads(), object()

    def pool(self) -> object:
        return self.shared

    def replay(self) -> None:
        if any(workspace.freed for workspace in self.workspaces):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(graphs, "_can_replay", lambda x: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: made.now)
    monkeypatch.setattr(torch.cuda, "stream", made.stream)
    monkeypatch.setattr(torch.cuda, "graph", made.graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Captured)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", made.clear_workspaces)
    monkeypatch.setattr(graphs, "_last", {})
    return made


def test_a_replay_outlives_the_workspaces_of_cublas(cuda: Cuda) -> None:
    run, x = graphs.Graphs(), torch.rand(2, 3)
    for _ in range(2):
        run(cuda.product, x)
    (graph,) = run._graphs.values()
    assert graph._graph.workspaces, "the pass used none, so that nothing is shown here"  # type: ignore[attr-defined]
    cuda.clear_workspaces()  # what torch.compile does before and after each of its own captures
    assert torch.equal(run(cuda.product, x), x @ x.T)


def test_others_do_not_compute_in_the_memory_of_a_graph(cuda: Cuda) -> None:
    run, x = graphs.Graphs(), torch.rand(2, 3)
    for _ in range(2):
        run(cuda.product, x)
    (graph,) = run._graphs.values()
    with cuda.stream(graph.stream):  # type: ignore[arg-type]  # torch hands the same few streams to everybody
        cuda.product(x)


def test_a_workspace_goes_back_after_a_capture_that_failed(cuda: Cuda) -> None:
    def fail(x: Tensor) -> Tensor:
        found = cuda.product(x)
        if cuda.capturing:
            raise RuntimeError("operation not permitted when stream is capturing")
        return found

    run, x = graphs.Graphs(), torch.rand(2, 3)
    run(fail, x)
    with pytest.warns(UserWarning, match="no CUDA graph"):
        assert torch.equal(run(fail, x), x @ x.T)
    assert all(workspace.pool is None for workspace in cuda.workspaces.values())


def test_graphs_of_a_model_share_memory_and_the_stream_that_it_is_lent_to(cuda: Cuda) -> None:
    run = graphs.Graphs()
    for rows in (1, 2, 3):
        for _ in range(2):
            run(cuda.product, torch.rand(rows, 3))
    first, *others = run._graphs.values()
    assert len(others) == 2
    assert all(graph.pool is first.pool and graph.stream is first.stream for graph in others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_all_that_a_pass_reads_belongs_to_the_graph(cuda: Cuda, dtype: torch.dtype) -> None:
    tower, images = tiny.vision(use_cls_token=True), tiny.images(2, 48, 80)
    tower._packed = GpuTower(tower, dtype, graphs=True)
    for _ in range(2):
        tower(images)
        tower.forward_intermediates(images, [0, 2], as_maps=True, norm=True)
    passes = list(tower._packed.graphs._graphs.values())  # type: ignore[union-attr]
    text = tiny.drawn(pe.TextTransformer(pe.PETextConfig(**tiny.TEXT)))
    text._packed_text = GpuText(text, dtype, graphs=True)
    for _ in range(2):
        text(token_rows(TEXTS))
    passes += text._packed_text.graphs._graphs.values()  # type: ignore[union-attr]
    assert len(passes) == 3
    for graph in passes:
        read = graph._graph.reads.read  # type: ignore[attr-defined]
        assert len(read) > 20
        assert read <= addresses([graph._held, graph._input])


@torch.inference_mode()
def test_a_graph_keeps_memory_that_a_parameter_gives_up(cuda: Cuda) -> None:
    tower, images = tiny.vision(), tiny.images(1)
    tower._packed = GpuTower(tower, torch.float32, graphs=True)
    for _ in range(2):
        tower(images)
    (graph,) = tower._packed.graphs._graphs.values()  # type: ignore[union-attr]
    before = addresses(graph._held)
    tower.attn_pool.double()  # moves parameters without a word to the tower
    assert addresses(list(tower.attn_pool.parameters())).isdisjoint(before)
    assert addresses(graph._held) == before


@torch.inference_mode()
def left_without_collection() -> list[object]:
    """What still lives of a tower and its graph once their names are gone, the garbage collector being off."""
    tower, images = tiny.vision(), tiny.images(1)
    tower._packed = GpuTower(tower, torch.float32, graphs=True)
    for _ in range(2):
        tower(images)
    (graph,) = tower._packed.graphs._graphs.values()  # type: ignore[union-attr]
    gone = weakref.ref(tower), weakref.ref(graph)
    gc.disable()
    try:
        del tower, graph
        return [found for one in gone if (found := one()) is not None]
    finally:
        gc.enable()


def test_a_tower_goes_with_its_graphs_at_once(cuda: Cuda) -> None:
    # other threads of the process may hold a name for a moment; a cycle would hold it every time
    assert any(not left_without_collection() for _ in range(5))


def test_tensors_are_found_in_modules_lists_mappings_and_objects() -> None:
    class Part:
        def __init__(self) -> None:
            self.table, self.itself = {"a": torch.rand(1), "b": (torch.rand(2), [torch.rand(3)])}, self

    norm, part, kept = torch.nn.BatchNorm1d(4), Part(), torch.rand(5)
    found = graphs.tensors_in(norm, part, [kept, kept], 3, None)
    assert sorted(tensor.numel() for tensor in found) == [1, 1, 2, 3, 4, 4, 4, 4, 5]
    assert not any(tensor is kept for tensor in found)
    assert graphs_of(norm, part)._held() == (norm, part)
