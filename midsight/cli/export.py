"""`midsight export`: a model's towers as files for other programs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.export import Exported
    from midsight.export.agree import Agreement


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for the files.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino or pt2 (torch.export).")],
    source: Annotated[
        str | None,
        typer.Argument(
            help='Published name, folder, file, repository, or "embedded". With --head: the encoder that it was '
            "trained on. Default: the one that it names.",
            metavar="SOURCE",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            help="Encoder and head as one file: segment, depth, detect or open_vocabulary (shipped), a published "
            "detector, or the folder of a trained head or detector.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Weights of a detector: file, or hf://repository:file.", show_default=False),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option("--layer", help="The vision tower up to this block, without pooling.", show_default=False),
    ] = None,
    as_maps: Annotated[bool, typer.Option("--as-maps", help="Feature maps instead of tokens.")] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Any height, width and length of text.")] = False,
    image_size: options.ImageSize = None,
    revision: options.Revision = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each file.")] = False,
) -> None:
    """Write towers, or an encoder with its head, as ONNX, OpenVINO or torch.export files, checked over real inputs.

    Example: midsight export PE-Core-B16-224 -o b16 --to onnx --dynamic

    Example: midsight export --head segment -o segment-onnx --to onnx
    """
    if source is None and head is None:
        raise InputError("name what to export: a model (SOURCE), or a head (--head)")
    with show.status(f"exporting {head or source}"):
        from midsight.export import export as run

        done = run(
            source,
            out,
            to,  # type: ignore[arg-type]  # run says what is allowed
            head=head,
            checkpoint=checkpoint,
            layer=layer,
            as_maps=as_maps,
            dynamic=dynamic,
            image_size=image_size,
            revision=revision,
        )
    if as_json:
        for one in done:
            show.json_line(asdict(one) | {"path": str(one.path)})
        return
    rows = [row for one in done for row in _rows(one)]
    columns: tuple[str, ...] = ("file", "input", "output", "max error", "relative", "cosine")
    if any(row[-1] for row in rows):
        columns = (*columns, "same")
    show.table(columns, [row[: len(columns)] for row in rows], right=columns[3:])
    for one in done:
        show.note(f"wrote {one.path}: {one.latency.milliseconds:.3g} ms for {_shape(one.latency.input)}, {one.latency}")


def _rows(one: "Exported") -> list[tuple[str, ...]]:
    return [
        (
            one.path.name,
            _shape(found.input),
            found.output,
            f"{found.max_error:.1e}",
            f"{found.relative_error:.1e}",
            f"{found.cosine:.7f}",
            _same(found),
        )
        for found in one.agreements
    ]


def _same(found: "Agreement") -> str:
    if found.pairs == 0:
        return "nothing found"
    return "" if found.same is None else f"{found.same:.2%}" + (f" of {found.pairs}" if found.pairs else "")


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
