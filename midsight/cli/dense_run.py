"""What the three dense commands do around their task: bar, Ctrl-C, failures, figures at the end."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.api import Opened
    from midsight.library.dense.job import DenseJob, Results
    from midsight.library.dense.plan import Item

INTERRUPTED = 130


def check(inputs: Sequence[str], out: Path, seconds: float | None) -> None:
    """What can be said of the inputs before a model is loaded.

    Raises:
        InputError: as `DenseJob`; --seconds without a camera.
    """
    from midsight.library.dense.plan import plan
    from midsight.library.dense.state import known_records
    from midsight.video import is_camera

    known_records(out)
    plan(inputs, out, {})
    if seconds is not None and not any(map(is_camera, inputs)):
        raise InputError("--seconds is the length of a recording, but no input is a camera")


def run(
    inputs: Sequence[str],
    opened: "Opened[Any]",
    results: "Results[Any]",
    every: int,
    seconds: float | None,
    settings: Mapping[str, Any],
    again: bool,
) -> None:
    """Runs the job and tells of it; leaves with 1 where an input failed, with 130 after Ctrl-C."""
    from midsight.library.dense.job import DenseJob
    from midsight.library.dense.state import restart

    if again:
        restart(results.out)
    with DenseJob(inputs, opened, results, every=every, seconds=seconds, settings=settings) as job:
        before, total = job.done, len(job.items)
        if before:
            show.note(f"going on: {before} of {total} inputs were done before")
        if seconds is None and any(item.kind == "camera" for item in job.items):
            show.note("Ctrl-C ends the recording")
        try:
            failed = _run(job, total)
        except KeyboardInterrupt:
            job.finish()
            show.warn(
                f"stopped: {job.done} of {total} inputs are done and kept in {results.out}\n"
                "run the same command again to go on"
            )
            raise typer.Exit(INTERRUPTED) from None
        job.finish()
    show.failures(failed, total)


def _run(job: "DenseJob[Any]", total: int) -> int:
    """Works through the job and says what was done; returns the number of failures."""
    failed, frames, counts = 0, 0, Counter[str]()
    started = time.monotonic()
    with options.interruptible(job.end_recording) as check_signal, show.progress() as bar:
        task = bar.add_task("starting", total=total)

        def tick(item: "Item", done: int, of: int | None) -> None:
            check_signal()
            if item.kind != "picture":
                shown = f"{done}/{of}" if of else f"{done} frames"
                bar.update(task, description=show.safe(f"{item.name[-40:]} {shown}"))

        for outcome in job.run(tick):
            check_signal()
            bar.update(task, advance=1, description=show.safe(job.items[outcome.index].name[-40:]))
            if outcome.value is None:
                failed += 1
                show.warn(outcome.error)
                continue
            if not outcome.value.before:
                frames += outcome.value.frames
                counts[job.items[outcome.index].kind] += 1
            if outcome.value.note:
                show.warn(f"{outcome.source}: {outcome.value.note}")
    if counts:
        seconds = max(time.monotonic() - started, 1e-6)
        what = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())
        show.note(f"{job.out}: {what}; {frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames/s")
    return failed
