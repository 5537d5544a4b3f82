"""`midsight match`: which places of two pictures belong together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import look, options, show

if TYPE_CHECKING:
    from midsight.tasks.correspondence import Matches


def match(
    a: Annotated[Path, typer.Argument(help="A picture.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another picture.", metavar="B")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw the pairs on both pictures: .png.", show_default=False),
    ] = None,
    points: Annotated[
        str | None,
        typer.Option("--points", help='Ask for these places of A, in pixels: "x,y;x,y".', show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Most pairs, spread over A.")] = 60,
    layer: look.Layer = -1,
    long_side: look.LongSide = None,
    image_size: look.Square = None,
    as_json: options.Json = False,
    model: look.Model = look.DENSE,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Which places of two pictures belong together, by likeness of features, without training.

    Pairs are tokens that are each other's nearest neighbours. Places are in pixels of the pictures as they are.

    Example: midsight match cat.jpg other_cat.jpg -o matches.png
    """
    from midsight.tasks.correspondence import find_points, mutual_matches
    from midsight.tasks.draw import heat
    from midsight.tasks.look import check_points, look_at

    asked = None if points is None else look.parse_points(points, "--points")
    look.check_output(output, ".png")
    encoder, size = look.open_encoder(
        [layer], long_side, image_size, model, revision=revision, device=device, dtype=dtype, threads=threads
    )
    first, second = look_at(a, encoder, size), look_at(b, encoder, size)
    if asked is not None:
        check_points(asked, first.size, first.name)
    here, there = encoder(first.images)[0][0], encoder(second.images)[0][0]
    if asked is None:
        found = mutual_matches(here, there, first.size, second.size, count)
    else:
        found = find_points(asked, here, there, first.size, second.size)
    if output is not None:
        look.write_png(output, heat.pairs(first.pixels, second.pixels, found.a, found.b, numbered=asked is not None))
        show.note(f"drew {len(found)} pairs in {output}")
    if as_json or output is None or asked is not None:
        _tell(found, as_json)


def _tell(found: "Matches", as_json: bool) -> None:
    rows = [
        {"a": [round(v, 2) for v in a], "b": [round(v, 2) for v in b], "cosine": round(cosine, 4)}
        for a, b, cosine in zip(found.a.tolist(), found.b.tolist(), found.cosine.tolist(), strict=True)
    ]
    if as_json:
        for row in rows:
            show.json_line(row)
        return
    columns = ("", "x in A", "y in A", "x in B", "y in B", "cosine")
    cells = [
        (n, *(f"{v:.1f}" for v in (*row["a"], *row["b"])), f"{row['cosine']:.3f}") for n, row in enumerate(rows, 1)
    ]
    show.table(columns, cells, right=columns)
