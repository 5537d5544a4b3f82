"""`midsight features`: what the encoder holds after some of its blocks, as numbers and as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.api.perception import Array

SUFFIXES = (".safetensors", ".npz")


def features(
    file: Annotated[Path, typer.Argument(help="A picture or a video.", metavar="FILE")],
    layers: Annotated[
        str, typer.Option("--layers", help='Blocks, 0-based, negative from the end, separated by commas: "0,5,-1".')
    ] = "-1",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the feature maps: .safetensors or .npz.", show_default=False),
    ] = None,
    pca: Annotated[
        Path | None,
        typer.Option("--pca", help="Write a picture of each layer, side by side: .png.", show_default=False),
    ] = None,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    frames: options.Frames = 8,
) -> None:
    """Features of the encoder's blocks, as maps (frames, channels, rows, columns).

    The picture shows three principal components of each layer as lightness, chroma and hue (PE paper, B.3.2); a video
    gets a line for each frame, coloured alike.

    Example: midsight features cat.jpg --layers 0,5,-1 --pca cat.png
    """
    indices = _parse(layers)
    _check(output, pca)
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    maps = loaded.features(file, indices, num_frames=frames)
    depth = loaded.tower.layers
    names = [f"layer {index % depth + 1} of {depth} (layer_idx {index % depth})" for index in indices]
    rows = [(name, *_shape(found), f"{float(abs(found).mean()):.4g}") for name, found in zip(names, maps, strict=True)]
    show.table(
        ("layer", "frames", "channels", "map", "mean size"), rows, right=("frames", "channels", "map", "mean size")
    )
    if output is not None:
        _write(output, {f"layer_{index % depth}": found for index, found in zip(indices, maps, strict=True)})
        show.note(f"wrote {output}")
    if pca is not None:
        _write_sheet(pca, file, maps, names, frames)
        show.note(f"wrote {pca}")


def _parse(layers: str) -> list[int]:
    try:
        return [int(index) for index in layers.split(",")]
    except ValueError:
        raise InputError(f'--layers must be numbers such as "0,5,-1", got {layers!r}') from None


def _check(output: Path | None, pca: Path | None) -> None:
    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output}: the ending tells the format of --output; expected {' or '.join(SUFFIXES)}")
    if pca is not None and pca.suffix.lower() != ".png":
        raise InputError(f"{pca}: --pca writes a picture; expected a name that ends in .png")


def _shape(maps: "Array") -> tuple[int, int, str]:
    frames, channels, rows, columns = maps.shape
    return frames, channels, f"{rows}x{columns}"


def _write(output: Path, maps: dict[str, "Array"]) -> None:
    import numpy as np
    from safetensors.numpy import save

    from midsight.files import atomic_write

    contiguous = {name: np.ascontiguousarray(found) for name, found in maps.items()}
    with atomic_write(output) as file:
        if output.suffix.lower() == ".npz":
            np.savez(file, **contiguous)  # type: ignore[arg-type]  # the stubs mix names with allow_pickle
        else:
            file.write(save(contiguous))


def _write_sheet(target: Path, source: Path, maps: Sequence["Array"], names: Sequence[str], frames: int) -> None:
    import torch
    from PIL import Image

    from midsight.files import atomic_write
    from midsight.images import load_image
    from midsight.library.scan import is_video
    from midsight.tasks.visualize import pca_pictures, sheet
    from midsight.video import sample_frames

    inputs = list(sample_frames(source, frames).frames) if is_video(source) else [load_image(source)]
    pictures = [list(pca_pictures(torch.from_numpy(found)).numpy()) for found in maps]
    buffer = io.BytesIO()
    columns = [inputs, *pictures]
    Image.fromarray(sheet(columns, ["input", *names])).save(buffer, "png")
    with atomic_write(target) as file:
        file.write(buffer.getbuffer())
