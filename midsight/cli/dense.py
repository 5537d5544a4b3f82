"""`midsight detect`, `segment`, `depth` and `perceive`: dense tasks over pictures, folders, videos, cameras."""

from pathlib import Path
from typing import Annotated

import typer

from midsight.cli import dense_run, options, show
from midsight.errors import InputError

Inputs = Annotated[
    list[str], typer.Argument(help="Pictures, videos, folders of them, or a camera (camera:0).", metavar="INPUT")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", show_default=False)]
Head = Annotated[
    str | None,
    typer.Option("--head", help="Folder of a trained head. Default: the one that is shipped.", show_default=False),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="The encoder that it was trained on. Default: the one that it names.", show_default=False
    ),
]
Every = Annotated[int, typer.Option("--every", min=1, help="Take each N-th frame of a video.")]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", help="Length of a recording of a camera. Default: until Ctrl-C.", show_default=False),
]
NoOverlay = Annotated[bool, typer.Option("--no-overlay", help="Write the data only, no pictures to look at.")]
Restart = Annotated[bool, typer.Option("--restart", help="Do again what was done, also with other settings.")]


def detect(
    inputs: Inputs,
    out: Out,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", help="Published name, or folder. Default: the one that is shipped.", show_default=False
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Its weights: file, or hf://repository:file.", show_default=False)
    ] = None,
    categories: Annotated[
        Path | None,
        typer.Option("--categories", help="COCO annotation file that names its classes (LVIS).", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Least score.")] = 0.3,
    formats: Annotated[
        str, typer.Option("--format", help="coco, yolo, label-studio; several with commas. coco is always written.")
    ] = "coco",
    every: Every = 1,
    seconds: Seconds = None,
    no_overlay: NoOverlay = False,
    restart: Restart = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Find objects: boxes, names, scores, and masks where the detector has them.

    Writes overlays/NAME.png (.mp4 for videos) and detections.json, in COCO's format. If the command is stopped, the
    same command goes on where it was.

    Example: midsight detect photos/ -o found --detector runs/mine/model
    """
    dense_run.check(inputs, out, seconds)
    with show.status(f"loading {detector or 'the shipped detector'}"):
        from midsight.api import open_detector
        from midsight.library.dense.detect import DetectResults

        opened = open_detector(
            detector,
            checkpoint,
            threshold=threshold,
            categories=categories,
            device=device,
            dtype=dtype,  # type: ignore[arg-type]  # it is checked where the model is loaded
            threads=threads,
        )
    results = DetectResults(out, opened, overlay=not no_overlay, formats=options.read_list(formats, "formats"))
    dense_run.run(inputs, opened, results, every, seconds, {"threshold": threshold}, restart)


def segment(
    inputs: Inputs,
    out: Out,
    head: Head = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="In place of a head: names to choose from, separated by commas, or @FILE with one on each line.",
            show_default=False,
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="With --labels: a pixel may be none of them.")
    ] = False,
    model: Encoder = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, help="Pixels of the shorter side. Default: as the head was trained.", show_default=False
        ),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Keep the class map of every frame of a video.")] = False,
    every: Every = 1,
    seconds: Seconds = None,
    no_overlay: NoOverlay = False,
    restart: Restart = False,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Name the class of every pixel.

    Writes labels/NAME.png (indexed), overlays/NAME.png (.mp4 for videos) and classes.json. If the command is stopped,
    the same command goes on where it was.

    Example: midsight segment photos/ -o classes --labels "cat,dog" --background

    Example: midsight segment photos/ -o classes --head runs/mine/model
    """
    dense_run.check(inputs, out, seconds)
    names = None if labels is None else options.read_list(labels, "labels")
    if names is not None and (head is not None or size is not None):
        raise InputError("--labels stands in place of a head; leave --head and --size out")
    if names is None and background:
        raise InputError("--background goes with --labels")
    where = {"device": device, "dtype": dtype, "revision": revision, "threads": threads}
    with show.status(f"loading {head or 'the shipped model'}"):
        from midsight.api import open_labels, open_segmenter
        from midsight.library.dense.segment import SegmentResults

        if names is None:
            opened = open_segmenter(head, model, size=size, **where)  # type: ignore[arg-type]
        else:
            opened = open_labels(names, model, background=background, **where)  # type: ignore[arg-type]
    results = SegmentResults(out, opened, overlay=not no_overlay, masks=masks)
    dense_run.run(inputs, opened, results, every, seconds, {"size": size}, restart)


def depth(
    inputs: Inputs,
    out: Out,
    head: Head = None,
    model: Encoder = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=1,
            help="Most pixels of the longer side. Default: as the task is measured.",
            show_default=False,
        ),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Keep the depth of every frame of a video.")] = False,
    near: Annotated[
        float | None, typer.Option("--near", help="Metres of the colour for near. Default: from the picture.")
    ] = None,
    far: Annotated[
        float | None, typer.Option("--far", help="Metres of the colour for far. Default: from the picture.")
    ] = None,
    every: Every = 1,
    seconds: Seconds = None,
    no_overlay: NoOverlay = False,
    restart: Restart = False,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Measure the depth of every pixel in metres.

    Writes depth/NAME.png (16 bits, millimetres, 0 is unknown) and colours/NAME.png (.mp4 for videos). If the command is
    stopped, the same command goes on where it was.

    Example: midsight depth photos/ -o depth --head runs/mine/model
    """
    dense_run.check(inputs, out, seconds)
    with show.status(f"loading {head or 'the shipped head'}"):
        from midsight.api import open_depth
        from midsight.library.dense.depth import DepthResults

        opened = open_depth(
            head,
            model,
            size=size,
            device=device,
            dtype=dtype,  # type: ignore[arg-type]
            revision=revision,
            threads=threads,
        )
    results = DepthResults(out, overlay=not no_overlay, maps=maps, near=near, far=far)
    dense_run.run(inputs, opened, results, every, seconds, {"size": size}, restart)


def perceive(
    inputs: Inputs,
    out: Out,
    heads: Annotated[
        str | None,
        typer.Option(
            "--heads",
            help="Folder with the heads segment, depth and detect of one encoder. Default: those that are shipped.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", min=0, max=1, help="Least score that is drawn.")] = 0.3,
    every: Every = 1,
    seconds: Seconds = None,
    restart: Restart = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """See objects, classes and depth at once: all heads over one pass of their encoder.

    Writes panels/NAME.mp4 (.png for pictures): the frame, its objects, its classes, its depth; and says how many frames
    a second were seen. If the command is stopped, the same command goes on where it was.

    Example: midsight perceive walk.mp4 -o seen
    """
    dense_run.check(inputs, out, seconds)
    with show.status(f"loading {heads or 'the shipped heads'}"):
        from midsight.api.perceive import open_perceiver
        from midsight.library.dense.perceive import PerceiveResults

        opened = open_perceiver(heads, device=device, dtype=dtype, threads=threads)  # type: ignore[arg-type]
    results = PerceiveResults(out, opened.names, opened.classes, opened.farthest, threshold)
    dense_run.run(inputs, opened, results, every, seconds, {}, restart)
