"""`midsight info` and `midsight convert`: what a checkpoint holds, and the same in another layout."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    import torch

    from midsight.checkpoints.convert import Converted, Summary

Checkpoint = Annotated[
    str, typer.Argument(help="File, folder, published name or Hugging Face repository.", metavar="CHECKPOINT")
]


def info(
    checkpoint: Checkpoint,
    revision: options.Revision = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What a checkpoint holds: layout, configuration, parameters, preprocessing, identity.

    Example: midsight info PE-Core-L14-336.pt
    """
    with show.status(f"reading {checkpoint}"):
        from midsight.checkpoints import open_pretrained
        from midsight.checkpoints.convert import inspect

        summary = inspect(checkpoint, revision=revision)
        identity = open_pretrained(checkpoint, revision=revision).identity()
    record = _record(summary, identity)
    if as_json:
        show.json_line(record)
        return
    rows = [(key.replace("_", " "), _text(value)) for key, value in record.items() if value not in (None, {}, "")]
    show.table(("", ""), rows, header=False)


def convert(
    source: Annotated[str, typer.Argument(help="File, folder, published name or repository.", metavar="IN")],
    target: Annotated[
        Path, typer.Argument(help="A .pt file for official, a folder (or a .safetensors file) else.", metavar="OUT")
    ],
    to: Annotated[
        str, typer.Option("--to", help="official, timm, open_clip, transformers, perception_lm or midsight.")
    ],
    revision: options.Revision = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="fp32, fp16 or bf16. Default: as stored.", show_default=False),
    ] = None,
) -> None:
    """Write a checkpoint in another layout, tensor by tensor.

    Example: midsight convert PE-Core-B16-224.pt b16-timm --to timm
    """
    import torch

    dtypes = {None: None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if dtype not in dtypes:
        raise InputError(f"--dtype must be fp32, fp16 or bf16, got {dtype}")
    with show.status(f"converting {source}"):
        done = _convert(source, target, to, revision, dtypes[dtype])
    for path in done.paths:
        show.note(f"wrote {path}")
    show.note(f"{done.entries} tensors of {done.name or 'a model of its own'} in the layout of {to}")
    if done.left_out:
        first = ", ".join(done.left_out[:3])
        show.warn(f"{to} has no place for {len(done.left_out)} tensors, which were left out ({first}, ...)")


def _convert(source: str, target: Path, to: str, revision: str | None, dtype: "torch.dtype | None") -> "Converted":
    if to == "transformers":
        from midsight import transformers

        return transformers.convert(source, target, revision=revision, dtype=dtype)
    from midsight.checkpoints.convert import convert as run

    return run(source, target, to, revision=revision, dtype=dtype)  # type: ignore[arg-type]  # run says what is allowed


def _record(summary: "Summary", identity: str) -> dict[str, Any]:
    return {
        "path": str(summary.path),
        "layout": summary.layout,
        "model": summary.name,
        "parameters": summary.parameters,
        "tensors": summary.entries,
        "bytes": summary.nbytes,
        "dtype": ", ".join(summary.dtypes),
        "vision": asdict(summary.vision),
        "text": None if summary.text is None else asdict(summary.text),
        "preprocess": asdict(summary.preprocess),
        "identity": identity,
        "metadata": summary.metadata,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
