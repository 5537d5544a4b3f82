"""Exported files as functions of arrays, each run by its own program."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import ShapeError
from midsight.export.card import missing, read_card

Array = npt.NDArray[Any]
Run = Callable[[Array], list[Array]]  # the input to all outputs, in order


class Runner:
    """An exported tower, ready to run on a CPU: `runner(images)`.

    Attributes:
        card: what the file says about itself.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        """Opens a file that `midsight export` wrote.

        Args:
            path: .onnx, .xml (OpenVINO) or .pt2.
            threads: of onnxruntime and OpenVINO; None leaves it to them. A .pt2 computes with torch's.

        Raises:
            InputError, CheckpointError, MissingDependencyError: as `read_card`.
        """
        self.card = read_card(path)
        opened: dict[str, Callable[[str, int | None], Run]] = {
            ".onnx": _onnxruntime, ".xml": _openvino, ".pt2": _pt2,
        }  # fmt: skip
        try:
            self._run = opened[Path(path).suffix.lower()](str(path), threads)
        except ImportError as error:
            raise missing(error) from error

    def __call__(self, x: npt.ArrayLike) -> Array:
        """The first output, as the card describes it: float32 (B, D), (B, N, W) or (B, C, h, w).

        Raises:
            ShapeError: an input of another shape or dtype.
        """
        return self.run(x)[self.card.output.name]

    def run(self, x: npt.ArrayLike) -> dict[str, Array]:
        """All outputs by name; a detector has several.

        Raises:
            ShapeError: as calling it.
        """
        port, array = self.card.input, np.ascontiguousarray(x)
        fits = array.ndim == len(port.shape) and all(
            isinstance(size, str) or size == found for size, found in zip(port.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != np.dtype(port.dtype):
            shape = ", ".join(map(str, port.shape))
            raise ShapeError(f"{port.name} must be {port.dtype} ({shape}), got {array.dtype} {array.shape}")
        return {port.name: found for port, found in zip(self.card.outputs, self._run(array), strict=True)}


def _onnxruntime(path: str, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: list(session.run(None, {name: x}))


def _openvino(path: str, threads: int | None) -> Run:
    import openvino

    # processors with bfloat16 would compute in it unasked
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    with _signal_stack_kept():
        compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(x: Array) -> list[Array]:
        with _signal_stack_kept():
            return [np.array(found) for found in compiled(x).to_tuple()]

    return run


class _SignalStack(ctypes.Structure):
    """C's stack_t on Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """The thread's stack for signals is behind the block what it was before.

    Where a processor has AMX, OpenVINO gives the calling thread one that just holds the registers and no handler's own
    frames: the next signal that Python handles, such as Ctrl-C, would end the process with a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


def _pt2(path: str, threads: int | None) -> Run:
    import torch

    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(x: Array) -> list[Array]:
        found = module(torch.from_numpy(x))
        return [value.numpy() for value in ([found] if isinstance(found, torch.Tensor) else found)]

    return run
