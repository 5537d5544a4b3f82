"""`midsight match` and `midsight attention`: what belongs together in two pictures, and where a token looks."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError, OutputError

if TYPE_CHECKING:
    from midsight.images import Pixels
    from midsight.tasks.correspondence import Matches
    from midsight.tasks.features import DenseEncoder
    from midsight.tasks.look import InputSize, Point

DENSE = "embedded-spatial"  # the packaged model for dense tasks

File = Annotated[Path, typer.Argument(help="A picture.", metavar="FILE")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Published name, folder, checkpoint file or Hugging Face repository.")
]
Layer = Annotated[int, typer.Option("--layer", help="Block that is read, 0-based, negative from the end.")]
LongSide = Annotated[
    int | None,
    typer.Option(
        "--long-side",
        min=1,
        help="Pixels of the longer side as encoded; more give finer tokens. Default: what the model was trained with.",
        show_default=False,
    ),
]
Square = Annotated[
    int | None,
    typer.Option("--image-size", help="In its place: squash to a square of this side, in pixels.", show_default=False),
]


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
    layer: Layer = -1,
    long_side: LongSide = None,
    image_size: Square = None,
    as_json: options.Json = False,
    model: Model = DENSE,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Which places of two pictures belong together, by likeness of features, without training.

    Pairs are tokens that are each other's nearest neighbours. Places are in pixels of the pictures as they are.

    Example: midsight match cat.jpg other_cat.jpg -o matches.png
    """
    from midsight.tasks import draw
    from midsight.tasks.correspondence import find_points, mutual_matches
    from midsight.tasks.look import check_points, look

    asked = None if points is None else parse_points(points, "--points")
    check_output(output, ".png")
    encoder, size = open_encoder(
        [layer], long_side, image_size, model, revision=revision, device=device, dtype=dtype, threads=threads
    )
    first, second = look(a, encoder, size), look(b, encoder, size)
    if asked is not None:
        check_points(asked, first.size, first.name)
    here, there = encoder(first.images)[0][0], encoder(second.images)[0][0]
    if asked is None:
        found = mutual_matches(here, there, first.size, second.size, count)
    else:
        found = find_points(asked, here, there, first.size, second.size)
    if output is not None:
        write_png(output, draw.pairs(first.pixels, second.pixels, found.a, found.b, numbered=asked is not None))
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


def open_encoder(
    layers: Sequence[int],
    long_side: int | None,
    image_size: int | None,
    model: str,
    *,
    revision: str | None,
    device: str,
    dtype: str,
    threads: int | None,
) -> "tuple[DenseEncoder, InputSize]":
    """The model read after some of its blocks, and the size at which pictures go into it."""
    from midsight.api import dense_encoder
    from midsight.tasks.look import InputSize

    if long_side is not None and image_size is not None:
        raise InputError("--long-side keeps the picture's shape and --image-size does not: give one of them")
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    encoder = dense_encoder(loaded, layers)
    if image_size is not None:
        return encoder, InputSize(square=image_size)
    return encoder, InputSize(long_side=long_side or loaded.preprocess.image_size)


def parse_points(text: str, option: str) -> "list[Point]":
    """ "x,y;x,y" as numbers."""
    try:
        pairs = [tuple(float(number) for number in part.split(",")) for part in text.split(";") if part.strip()]
    except ValueError:
        pairs = []
    points = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if not points or len(points) != len(pairs):
        raise InputError(f'{option} must be pixels such as "120,80", got {text!r}')
    return points


def check_output(output: Path | None, suffix: str) -> None:
    """That a result can be written there, before anything is computed."""
    if output is None:
        return
    if output.suffix.lower() != suffix:
        raise InputError(f"{output}: expected a name that ends in {suffix}")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist. Make it first.")


def write_png(target: Path, pixels: "Pixels") -> None:
    """A picture as a file, or no file at all."""
    from PIL import Image

    from midsight.files import atomic_write

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    with atomic_write(target) as file:
        file.write(buffer.getbuffer())
