"""What the commands that look inside share: `match`, `attention`, `explore`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options
from midsight.errors import InputError, OutputError

if TYPE_CHECKING:
    from midsight.images import Pixels
    from midsight.tasks.features import DenseEncoder
    from midsight.tasks.look import InputSize, Point

DENSE = "embedded-spatial"  # the packaged model for dense tasks

File = Annotated[Path, typer.Argument(help="A picture.", metavar="FILE")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Published name, folder, checkpoint file or Hugging Face repository.")
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        help='Blocks, 0-based, negative from the end: "0,5,-1". Default: the first, the middle and the last.',
        show_default=False,
    ),
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


def open_encoder(
    layers: Sequence[int] | None,
    long_side: int | None,
    image_size: int | None,
    model: str,
    *,
    revision: str | None,
    device: str,
    dtype: str,
    threads: int | None,
) -> "tuple[DenseEncoder, InputSize]":
    """The model read after some of its blocks, and the size at which pictures go into it.

    Args:
        layers: None is the first, the middle and the last.
    """
    from midsight.api import dense_encoder
    from midsight.tasks.look import InputSize

    if long_side is not None and image_size is not None:
        raise InputError("--long-side keeps the picture's shape and --image-size does not: give one of them")
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    last = loaded.tower.layers - 1
    encoder = dense_encoder(loaded, sorted({0, last // 2, last}) if layers is None else layers)
    if image_size is not None:
        return encoder, InputSize(square=image_size)
    return encoder, InputSize(long_side=long_side or loaded.preprocess.image_size)


def parse_layers(text: str) -> list[int]:
    """ "0,5,-1" as numbers."""
    try:
        return [int(index) for index in text.split(",")]
    except ValueError:
        raise InputError(f'--layers must be numbers such as "0,5,-1", got {text!r}') from None


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
