"""`midsight attention`: where a token looks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import look, options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.images import Pixels
    from midsight.tasks.attention import Attention

POOLED = "embedded"  # the packaged model that has a pooling
CELL = 336  # pixels of a picture's longer side on the sheet


def attention(
    file: look.File,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet of pictures: .png.")],
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help='The place that looks, in pixels: "x,y". Default: the class token and the pooling.',
            show_default=False,
        ),
    ] = None,
    layers: look.Layers = None,
    heads: Annotated[bool, typer.Option("--heads", help="Each head beside their mean, a row for each layer.")] = False,
    long_side: look.LongSide = None,
    image_size: look.Square = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Published name, folder, checkpoint file or Hugging Face repository. "
            f"Default: {look.DENSE} with --at, else {POOLED}.",
            show_default=False,
        ),
    ] = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Where a token looks: its attention weights over the picture, or those of class token and pooling.

    Colours go from 0 to the largest weight of each map. The pooling reads the last layer.

    Example: midsight attention cat.jpg --at 200,150 -o attention.png
    """
    from midsight.tasks.attention import look_of
    from midsight.tasks.draw import heat
    from midsight.tasks.look import look_at

    asked = None if at is None else look.parse_points(at, "--at")
    if asked is not None and len(asked) != 1:
        raise InputError(f"--at is one place, got {len(asked)}")
    indices = None if layers is None else look.parse_layers(layers)
    look.check_output(output, ".png")
    name = model or (POOLED if at is None else look.DENSE)
    encoder, size = look.open_encoder(
        indices, long_side, image_size, name, revision=revision, device=device, dtype="fp32", threads=threads
    )
    seen = look_at(file, encoder, size)
    found = look_of(encoder, seen, None if asked is None else asked[0])
    picture = shown = heat.scaled(seen.pixels, CELL)
    if asked is not None:
        shown = heat.marked(picture, *(v * CELL / max(seen.size) for v in asked[0]))
    look.write_png(output, heat.captioned(_sheet(found, picture, shown, heads)))
    _tell(found)
    show.note(f"wrote {output}")


def _sheet(
    found: "list[Attention]", picture: "Pixels", shown: "Pixels", heads: bool
) -> "list[list[tuple[str, Pixels]]]":
    """Captions and pictures: a row of layers; or, with heads, a row for each layer."""
    from midsight.tasks.draw import heat

    def over(one: "Attention", head: int | None) -> "Pixels":
        values = one.maps.mean(0) if head is None else one.maps[head]
        return heat.overlay(picture, (values / values.max()).numpy())

    if not heads:
        return [[("input", shown), *((one.name, over(one, None)) for one in found)]]
    return [
        [
            ("input", shown),
            (f"{one.name}, mean", over(one, None)),
            *((f"head {head + 1}", over(one, head)) for head in range(len(one.maps))),
        ]
        for one in found
    ]


def _tell(found: "list[Attention]") -> None:
    columns = ("attention in", "heads", "largest weight", "even weight", "class token")
    rows = [
        (
            one.name,
            len(one.maps),
            f"{one.maps.mean(0).max():.2%}",
            f"{1 / one.maps[0].numel():.2%}",
            f"{one.class_token.mean():.1%}" if one.class_token.any() else "",
        )
        for one in found
    ]
    show.table(columns, rows, right=columns[1:])
