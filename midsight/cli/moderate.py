"""`midsight moderate`: which files show what a policy names, thresholds from labelled files, and a page for review."""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from midsight.cli import moderate_calibrate, moderate_review, options, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from midsight.library.moderate import ModerateJob, Verdict

FIRST = "files"  # the command that is meant where none is named
SHOWN = 20  # files that pass and are in the table; a long list of them would hide the others
STYLES = {"flag": "bold red", "review": "yellow", "pass": "green", "error": "red"}


class _Group(TyperGroup):
    """The commands; `files` need not be named: `midsight moderate photos/` means `midsight moderate files photos/`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the first command's name where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [FIRST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Moderate pictures and videos: `midsight moderate photos/ --policy policy.yaml` (short for `moderate files`).",
)


@app.command(FIRST)
def files(
    paths: options.Paths,
    policy: moderate_calibrate.PolicyFile,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl", help="Write all verdicts to this file; taken up again when stopped.", show_default=False
        ),
    ] = None,
    as_json: options.Json = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every file that passes, too.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away unfinished work for --jsonl.")] = False,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
) -> None:
    """Which files show what the policy names: flag, review or pass, with scores, and times for videos.

    A file that cannot be read is reported and stops no other. With --jsonl a stopped command goes on where it was when
    it is given again.

    Example: midsight moderate photos/ --policy policy.yaml --jsonl verdicts.jsonl
    """
    from midsight.library.moderate.reading import read_policy
    from midsight.library.scan import find_media

    wanted = read_policy(policy)
    found = find_media(paths)
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    from midsight.library.moderate.job import ModerateJob, Moderator
    from midsight.library.moderate.job import restart as start_over

    moderator = Moderator(loaded, wanted)
    if jsonl is None:
        verdicts = _watched(moderator.verdicts(found, batch_size), len(found), as_json)
    else:
        if restart:
            start_over(jsonl)
        with ModerateJob(moderator, found, jsonl, batch_size) as job:
            verdicts = _into_file(job, as_json)
    if not as_json:
        _table(verdicts, everything)
    show.failures(sum(verdict.error is not None for verdict in verdicts), len(verdicts))


@app.command()
def example() -> None:
    """A policy to begin with, on stdout.

    Example: midsight moderate example > policy.yaml
    """
    typer.echo(resources.files("midsight.library.moderate").joinpath("policy.yaml").read_text("utf-8"), nl=False)


app.command()(moderate_calibrate.calibrate)
app.command()(moderate_review.review)


def _into_file(job: "ModerateJob", as_json: bool) -> "list[Verdict]":
    if job.done:
        show.note(f"going on: {job.done} of {job.total} files were done before")
    try:
        verdicts = _watched(job.run(), job.total, as_json, done=job.done)
        job.finish()
    except KeyboardInterrupt:
        show.warn(
            f"stopped: {job.done} of {job.total} files are done and kept in {job.journal}\n"
            "run the same command again to go on, or add --restart to begin anew"
        )
        raise typer.Exit(130) from None
    show.note(f"{job.output}: verdicts on {job.total} files")
    return verdicts


def _watched(verdicts: "Iterable[Verdict]", total: int, as_json: bool, done: int = 0) -> "list[Verdict]":
    """All verdicts; shows how far the work is, and failures and JSON as they come."""
    found = []
    with options.interruptible() as check, show.progress() as bar:
        task = bar.add_task("moderate", total=total, completed=done)
        for verdict in verdicts:
            check()
            if verdict.error is not None:
                show.warn(verdict.error)
            if as_json:
                show.json_line(verdict.record())
            found.append(verdict)
            bar.update(task, completed=max(done, len(found)))
    return found


def _table(verdicts: "list[Verdict]", everything: bool) -> None:
    passed = sum(verdict.verdict == "pass" for verdict in verdicts)
    hide = passed > SHOWN and not everything
    rows = [_row(verdict) for verdict in verdicts if not (hide and verdict.verdict == "pass")]
    if rows:
        show.table(("file", "verdict", "category", "score", "because of", "time"), rows, right=("score",))
    counts = {word: sum(verdict.verdict == word for verdict in verdicts) for word in STYLES}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    show.note(f"{len(verdicts)} files: {told}" + ("; those that pass are not shown, --all shows them" if hide else ""))


def _row(verdict: "Verdict") -> tuple[object, ...]:
    word = Text(verdict.verdict, STYLES[verdict.verdict])
    top = verdict.top
    if top is None:
        return (verdict.path, word, "", "", "", "")
    also = [finding.category for finding in verdict.findings if finding.verdict == "flag" and finding is not top]
    from midsight.library.moderate.verdicts import clock

    times = ", ".join(f"{clock(one.start)}-{clock(one.end)}" for one in top.ranges)
    return (verdict.path, word, ", ".join([top.category, *also]), f"{top.score:.2f}", top.by, times)
