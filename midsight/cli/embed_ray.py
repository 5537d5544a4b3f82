"""`midsight embed --ray`: the same embeddings by a cluster."""

import time
from typing import TYPE_CHECKING

import typer

from midsight.cli import options, show

if TYPE_CHECKING:
    from midsight.library.jobs.job import Options, RayJob
    from midsight.library.jobs.stages import Model


def embed_on_ray(
    paths: list[str], output: str, model: "Model", settings: "Options", *, address: str | None, restart: bool
) -> None:
    """Runs the job and says how it went."""
    from midsight.library.jobs import cluster
    from midsight.library.jobs import job as jobs
    from midsight.library.jobs.inputs import find_inputs

    cluster.import_ray()
    jobs.check_output(output)
    inputs = find_inputs(paths)
    if restart:
        jobs.restart(output)
    with show.status("loading the model"):
        job = jobs.RayJob(model, inputs, output, settings)
    if job.done:
        show.note(f"going on: {job.done} of {job.total} inputs were done before")
    first, seconds = job.done, 0.0
    try:
        if job.done < job.total:
            seconds = _run(job, address)
        summary = job.finish()
    except KeyboardInterrupt:
        show.warn(
            f"stopped: {job.done} of {job.total} inputs are done and kept in {job.checkpoint.name}\n"
            "run the same command again to go on, or add --restart to begin anew"
        )
        raise typer.Exit(130) from None
    rate = f", {(job.total - first) / seconds:.1f} inputs a second" if seconds else ""
    good = summary.rows - summary.failures
    show.note(f"{output}: {good} embeddings of {job.dim} dimensions, by {job.name}{rate}")
    show.failures(summary.failures, summary.rows)


def _run(job: "RayJob", address: str | None) -> float:
    """Seconds from the first row that came in to the last: starting a cluster is not the cluster's speed."""
    from midsight.library.jobs import cluster

    with options.interruptible() as check, cluster.connected(address) as ray, show.progress() as bar:
        task = bar.add_task("embed", total=job.total, completed=job.done)
        rows, started = 0, time.monotonic()
        for new in job.run(ray):
            check()
            rows += len(new)
            for row in new:
                if row.error is not None:
                    show.warn(row.error)
            bar.update(task, completed=job.done, description=f"embed, {rows} rows")
        bar.update(task, completed=job.total)
        return time.monotonic() - started
