"""`midsight embed`: pictures and videos to a file of embeddings, in a way that can be stopped and taken up again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.cli.embed_ray import embed_on_ray
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.library.embed import EmbedJob


def embed(
    paths: options.Paths,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .parquet, .npy or .safetensors; with --ray a folder, a URL, or NAME.lance.",
            show_default=False,
        ),
    ],
    segments: Annotated[
        float | None,
        typer.Option("--segments", help="One embedding for each so many seconds of a video.", show_default=False),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer", help="Embed from this block of the encoder: 0-based, negative from the end.", show_default=False
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away unfinished work for this output.")] = False,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    frames: options.Frames = 8,
    batch_size: options.BatchSize = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Work on a Ray cluster; PATH may then be a URL or a list of files, too.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", help="Of the cluster. Default: RAY_ADDRESS, or this machine alone.", show_default=False
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option("--actors", help="With --ray: processes that hold the model.", min=1, show_default=False),
    ] = None,
) -> None:
    """Embeddings of pictures and videos, one row for each file (or segment of a video), unit length.

    Parquet has the columns path, start, end, embedding, error. A matrix (.npy, .safetensors) comes with NAME.json,
    which says what each line is. A file that cannot be read is reported and skipped. If the command is stopped, the
    same command goes on where it was.

    With --ray the work is spread over a cluster, and the result is a folder of Parquet files. PATH and the output may
    then be URLs (s3://bucket/photos), and PATH a list: a text file with a path or URL on each line, or Parquet with a
    column path.

    Example: midsight embed photos/ -o photos.parquet
    """
    if segments is not None and not segments > 0:
        raise InputError(f"--segments must be above 0 seconds, got {segments}")
    if not ray and (ray_address is not None or actors is not None):
        raise InputError("--ray-address and --actors belong to --ray, which was not given")
    if ray:
        from midsight.library.jobs.job import Options
        from midsight.library.jobs.stages import Model

        embed_on_ray(
            paths, output, Model(model, revision, device, dtype, layer, image_size, threads),
            Options(frames, segments, batch_size, actors), address=ray_address, restart=restart,
        )  # fmt: skip
        return
    from midsight.library.scan import find_media
    from midsight.library.tables import check_output

    target = Path(output)
    check_output(target)
    files = find_media(paths)
    loaded = options.open_model(
        model, device, dtype, revision=revision, layer=layer, image_size=image_size, threads=threads
    )
    from midsight.library.embed import EmbedJob
    from midsight.library.embed import restart as start_over

    if restart:
        start_over(target)
    with EmbedJob(loaded, files, target, num_frames=frames, segment_seconds=segments, batch_size=batch_size) as job:
        if job.done:
            show.note(f"going on: {job.done} of {job.total} inputs were done before")
        try:
            _run(job)
            summary = job.finish()
        except KeyboardInterrupt:
            show.warn(
                f"stopped: {job.done} of {job.total} inputs are done and kept in {job.folder}\n"
                "run the same command again to go on, or add --restart to begin anew"
            )
            raise typer.Exit(130) from None
    show.note(f"{output}: {summary.rows - summary.failures} embeddings of {loaded.dim} dimensions, by {loaded.name}")
    show.failures(summary.failures, summary.rows)


def _run(job: "EmbedJob") -> None:
    with options.interruptible() as check, show.progress() as bar:
        task = bar.add_task("embed", total=job.total, completed=job.done)
        first = job.done
        for rows, outcome in enumerate(job.run(), start=1):
            check()
            if outcome.error is not None:
                show.warn(outcome.error)
            bar.update(task, completed=first + outcome.index, description=f"embed, {rows} rows")
        bar.update(task, completed=job.total)
