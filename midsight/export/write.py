"""Towers into files: torch.export's own, ONNX by torch's exporter, OpenVINO by way of ONNX."""

import io
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from midsight.errors import ExportError
from midsight.export.card import KEY, Card, gist, missing
from midsight.export.config import Format
from midsight.export.towers import Part

ONE_FILE_BYTES = 1_900_000_000  # an ONNX file holds less than 2 GiB; weights beyond go to a file beside it
TALKATIVE = ("onnxscript", "onnx_ir", "torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes")
OPERATOR = re.compile(r"OpOverload\(op='([\w.:]+)'|\b(\w+\.\w+)\.default\b")


def write(part: Part, path: Path, to: Format) -> None:
    """One tower into one file, with its card inside.

    Raises:
        ExportError: an operator that the format does not have, or code that torch.export cannot follow.
        MissingDependencyError: a package of the extra `export` is not installed.
    """
    program = trace(part)
    writers: dict[str, Callable[[Part, ExportedProgram, Path], None]] = {
        "onnx": _write_onnx, "openvino": _write_openvino, "pt2": _write_pt2,
    }  # fmt: skip
    try:
        with _quiet(), torch.no_grad():
            writers[to](part, program, path)
    except ImportError as error:
        raise missing(error) from error
    except OSError:
        raise
    except Exception as error:  # the exporters raise all kinds
        raise ExportError(
            f"{part.card.what} cannot be written as {to}: {_culprit(error)}. "
            "Take another format (--to pt2 keeps every operator of torch), or replace the operator in the model."
        ) from error


def trace(part: Part) -> ExportedProgram:
    """The tower as a graph of torch's operators.

    Raises:
        ExportError: code that torch.export cannot follow.
    """
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(part.module, (part.example,), dynamic_shapes=(part.free,), strict=False)
    except Exception as error:
        raise ExportError(
            f"torch.export cannot follow {part.card.what}: {_culprit(error)}. "
            "Export at a fixed size (without --dynamic), or replace the operator in the model."
        ) from error


def _write_pt2(part: Part, program: ExportedProgram, path: Path) -> None:
    torch.export.save(program, path, extra_files={f"{KEY}.json": part.card.to_json()})


def _write_onnx(part: Part, program: ExportedProgram, path: Path) -> None:
    card = part.card
    made = torch.onnx.export(program, dynamo=True, verbose=False)
    if made is None:
        raise ExportError("torch.onnx gave no program")
    _name_ports(made.model.graph, card)
    made.model.metadata_props[KEY] = card.to_json()
    nbytes = sum(tensor.numel() * tensor.itemsize for tensor in program.state_dict.values())
    made.save(path, external_data=nbytes > ONE_FILE_BYTES)


def _name_ports(graph: Any, card: Card) -> None:
    """The card's names in place of the trace's; shapes in between are left to whoever runs the file."""
    import onnx_ir

    ports = (card.input, *card.outputs)
    names = {port.name for port in ports}
    for node in graph:
        for value in node.outputs:
            value.shape = None
            if value.name in names:
                value.name = f"{value.name}_inside"
    for value, port in zip((graph.inputs[0], *graph.outputs), ports, strict=True):
        value.name, value.shape = port.name, onnx_ir.Shape(port.shape)


def _write_openvino(part: Part, program: ExportedProgram, path: Path) -> None:
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        middle = Path(folder) / "model.onnx"
        _write_onnx(part, program, middle)
        model = openvino.Core().read_model(middle)
        model.set_rt_info(part.card.to_json(), [KEY])
        openvino.save_model(model, path, compress_to_fp16=False)
        del model  # its weights are mapped from the folder


def _culprit(error: BaseException) -> str:
    """The operator that an exporter stumbled over, or else what it said."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for link in reversed(chain):
        found = OPERATOR.search(str(link))
        if found:
            return f"operator {found[1] or found[2]} ({gist(link)})"
    return gist(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters warn of, log and print: it concerns their own code."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        unheard = io.StringIO()  # of code that it cannot follow torch.export prints the whole graph
        with redirect_stdout(unheard), redirect_stderr(unheard), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
