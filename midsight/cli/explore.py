"""`midsight explore`: a local page on which one looks around in features."""

from pathlib import Path
from typing import Annotated

import typer

from midsight.cli import look, options, show


def explore(
    file: look.File,
    other: Annotated[
        Path | None, typer.Argument(help="A second picture beside it.", metavar="FILE2", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page: .html.")] = Path("explore.html"),
    layers: look.Layers = None,
    attention: Annotated[
        bool, typer.Option("--attention/--no-attention", help="Keep the attention of every token: the larger part.")
    ] = True,
    long_side: look.LongSide = None,
    image_size: look.Square = None,
    model: look.Model = look.DENSE,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """One HTML page that shows what each token of one or two pictures is like: open it from the disk.

    Click a token for its cosines, its best match in the other picture and its attention. The page needs no server and
    no network.

    Example: midsight explore cat.jpg other_cat.jpg -o page.html
    """
    from midsight.files import atomic_write
    from midsight.tasks.explore import explore_page
    from midsight.tasks.explore.page import MOST_WITH_ATTENTION
    from midsight.tasks.look import look_at

    indices = None if layers is None else look.parse_layers(layers)
    look.check_output(output, ".html")
    encoder, size = look.open_encoder(
        indices, long_side, image_size, model, revision=revision, device=device, dtype=dtype, threads=threads
    )
    looks = [look_at(path, encoder, size) for path in (file, other) if path is not None]
    page = explore_page(encoder, looks, attention).encode()
    with atomic_write(output) as written:
        written.write(page)
    for one in looks if attention else ():
        if one.grid[0] * one.grid[1] > MOST_WITH_ATTENTION:
            show.note(f"{one.name}: no attention, for that of {one.grid[1]}x{one.grid[0]} tokens would be too large")
    show.note(f"wrote {output} ({len(page) / 2**20:.1f} MiB): open it in a browser")
