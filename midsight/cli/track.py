"""`midsight track`: the labels of a first frame, carried through a video."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

FAILED = 1


def track(
    frames: Annotated[Path, typer.Argument(help="A video, or a folder of frames.", metavar="VIDEO")],
    mask: Annotated[
        Path, typer.Option("--mask", help="Labels of the first frame: indexed or grey PNG; 0 is background.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for one indexed PNG a frame.")],
    protocol: Annotated[
        str, typer.Option("--protocol", help="Size of the frames: pe (at most 448 pixels) or dino (480p).")
    ] = "pe",
    long_side: Annotated[
        int | None,
        typer.Option("--long-side", min=1, help="In its place: most pixels on the longer side.", show_default=False),
    ] = None,
    layer: Annotated[int, typer.Option("--layer", help="Block that is read, 0-based, negative from the end.")] = -1,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Follow objects through a video by likeness of features, without training.

    Writes 00000.png and so on, in the colours of DAVIS. Frames that cannot be read are left out, and told.

    Example: midsight track walk.mp4 --mask first.png -o masks
    """
    from midsight.api import dense_encoder
    from midsight.images.labels import write_labels
    from midsight.tasks.tracking import CONFIGS, track

    if protocol not in CONFIGS:
        raise InputError(f"--protocol must be {' or '.join(sorted(CONFIGS))}, got {protocol!r}")
    config = CONFIGS[protocol]
    if long_side is not None:
        config = replace(config, short_side=None, long_side=long_side)
    loaded = options.open_model(model, device, dtype, revision=revision, threads=threads)
    found = track(frames, mask, dense_encoder(loaded, [layer]), config)
    done = failed = 0
    with show.progress() as bar:
        task = bar.add_task("tracking", total=None)
        for outcome in found:
            bar.advance(task)
            if outcome.labels is None:
                failed += 1
                show.warn(f"frame {outcome.index}: {outcome.error}")
                continue
            out.mkdir(parents=True, exist_ok=True)
            write_labels(out / f"{outcome.index:05}.png", outcome.labels)
            done += 1
    show.note(f"wrote {done} label maps to {out}")
    if failed:
        raise typer.Exit(FAILED)
