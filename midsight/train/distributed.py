"""Processes of one run: started by torchrun, or this one alone. PyTorch's own FSDP2 and collectives, nothing more."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from midsight import pe
from midsight.api.loading import pick_device

_BUCKET = 16_777_216  # numbers that are averaged in one collective


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """Joins the processes that torchrun started; alone where it did not.

    Args:
        device: as in `midsight.load`; under torchrun "cuda" and "auto" take the GPU of the local rank.

    Raises:
        ConfigError: a device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, pick_device(device))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    cuda = chosen if chosen.type == "cuda" else None
    dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=size, device_id=cuda)
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def shard(pair: nn.Module, model: pe.CLIP, here: World, bf16: bool) -> None:
    """Spreads weights, gradients and optimiser state over all processes (FSDP2), block by block, in place.

    The logit scale, a single number, stays whole in each process.
    """
    blocks = (*model.visual.transformer.resblocks, *model.transformer.resblocks)
    shard_blocks(pair, blocks, here, bf16, {model.logit_scale})


def shard_blocks(
    module: nn.Module, blocks: Iterable[nn.Module], here: World, bf16: bool, whole: set[nn.Parameter] | None = None
) -> None:
    """Spreads a module over all processes (FSDP2) in place: each block for itself, then the rest.

    Args:
        whole: parameters that stay whole in each process.
    """
    mesh = init_device_mesh(here.device.type, (here.size,))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=whole)


def exchange_gradients(module: nn.Module, last: bool) -> None:
    """Tells a sharded module whether its next backward pass is the last of the step, when gradients are exchanged."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], here: World) -> None:
    """Averages the gradients that FSDP has not averaged: all of them in a replicated run, the logit scale's else."""
    if here.size == 1:
        return
    bucket: list[Tensor] = []
    for parameter in parameters:
        if isinstance(parameter, DTensor) or not parameter.requires_grad:
            continue
        if parameter.grad is None:  # another process may have one
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        if sum(grad.numel() for grad in bucket) >= _BUCKET:
            _average(bucket, here.size)
            bucket = []
    if bucket:
        _average(bucket, here.size)


def _average(grads: list[Tensor], size: int) -> None:
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for grad, mean in zip(grads, (flat / size).split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def local(x: Tensor) -> Tensor:
    """This process's part of a sharded tensor, or the tensor itself."""
    return x.to_local() if isinstance(x, DTensor) else x


def total(values: Tensor, here: World) -> Tensor:
    """The sum over all processes."""
    if here.size > 1:
        dist.all_reduce(values)
    return values


def most(values: Tensor, here: World) -> Tensor:
    """The largest over all processes, each number for itself."""
    if here.size > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def collect(value: Any, here: World) -> list[Any]:
    """What each process holds, in the order of ranks, on all of them."""
    if here.size == 1:
        return [value]
    values: list[Any] = [None] * here.size
    dist.all_gather_object(values, value)
    return values


class StopRequest:
    """Notes SIGTERM and Ctrl-C, so that the run can save at the end of its step and leave.

    A process that waits for a dead one inside a collective never reaches the end of its step, and Python's handlers do
    not run there; so among several processes a thread of its own watches, and ends the process after `grace` seconds
    without the end of a step. Saving takes as long as it takes. A second Ctrl-C ends the process as it would without
    this class.
    """

    def __init__(self, here: World, grace: float) -> None:
        self.signal: int | None = None
        self._many, self._grace = here.size > 1, grace
        self._done = threading.Event()
        self.saving = threading.Lock()  # held by the run while it writes a checkpoint
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        if self._many:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._many and self._before:
            signal.set_wakeup_fd(-1)
            os.close(self._writer)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def _watch(self) -> None:
        with open(self._reader, "rb", buffering=0) as told:
            number = told.read(1)
        while number and not self._done.wait(self._grace):
            if self.saving.acquire(blocking=False):
                os._exit(128 + number[0])

    def heard(self) -> None:
        """The run is at the end of its step and will leave by itself."""
        self._done.set()
