"""`midsight index`: a folder of pictures, videos and documents becomes one that can be searched."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.api import Perception
    from midsight.library.index import About, Indexer, Settings, Summary
    from midsight.library.index.indexer import Did

INTERRUPTED = 130
Folder = Annotated[Path, typer.Argument(help="Folder of pictures, videos and documents.", metavar="DIR")]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", help="Folder of the index. Default: .midsight in DIR.", show_default=False)
]


def index(
    folder: Folder,
    index_folder: IndexFolder = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only list the files that could not be read, and why.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Read those again although they have not changed.")] = False,
    reembed: Annotated[
        bool,
        typer.Option("--reembed", help="For another model or other settings: build a new index beside the old one."),
    ] = False,
    clip_seconds: Annotated[
        float | None,
        typer.Option("--clip-seconds", help="Length of the stretches of a video. Default: 10.", show_default=False),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Frames of each stretch. Default: 8.", min=1, show_default=False)
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", help="Where the rows go: a folder, s3://..., qdrant:... Default: the index.", show_default=False
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Most seconds for one picture, stretch or page.")] = 60.0,
    model: options.Model = None,
    revision: options.Revision = None,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Embed from this block; then words find nothing.", show_default=False)
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
    as_json: options.Json = False,
) -> None:
    """Make a folder searchable, or bring its index up to date.

    Pictures, stretches of videos and pages of PDFs are embedded. The next time, only what is new or changed is read
    again; what was moved or removed is followed. It can be stopped and started again at any time. A file that cannot be
    read is written down with the reason, and read again when it has changed.

    Example: midsight index photos/
    """
    from midsight.library.index.manifest import NAME

    where = folder / NAME if index_folder is None else index_folder
    if failed:
        list_failed(folder, where, as_json)
        return
    if not timeout > 0:
        raise InputError(f"--timeout must be above 0 seconds, got {timeout}")
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder. Name the folder to index.")
    loaded, load = _open_model(where, model, device, dtype, revision, layer, image_size, threads)
    from midsight.library.index import Indexer

    with Indexer(
        loaded, folder, where, settings=_settings(where, clip_seconds, frames), store=store, load=load, reembed=reembed,
        retry=retry, batch_size=batch_size, decode_seconds=timeout,
    ) as indexer:  # fmt: skip
        started = time.monotonic()
        try:
            done = _run(indexer, as_json)
        except KeyboardInterrupt:
            show.warn(f"stopped; what is done is kept in {indexer.folder}\nrun the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        summary = indexer.summary()
        _tell(indexer, summary, done, time.monotonic() - started)
    if summary.failed or summary.closed:
        raise typer.Exit(1)


def list_failed(folder: Path, index_folder: Path, as_json: bool) -> None:
    """Shows the files that could not be read, or not as a whole."""
    from midsight.library.index import Library

    with Library(index_folder if index_folder.exists() else folder) as library:
        records = list(library.files.all("failed", "partial"))
        if as_json:
            for record in records:
                show.json_line({"path": record.path, "result": record.outcome, "reason": record.reason})
            return
        if records:
            show.table(("file", "result", "reason"), [(r.path, r.outcome, r.reason) for r in records])
        show.note(f"{library.root}: {len(records)} of {sum(library.files.counts().values())} files")


def _open_model(
    where: Path,
    model: str | None,
    device: str,
    dtype: str,
    revision: str | None,
    layer: int | None,
    image_size: int | None,
    threads: int | None,
) -> "tuple[Perception, About]":
    """The model that is asked for, else that of the index, else the embedded one; and how it was opened."""
    from midsight.library.index import About
    from midsight.library.index.manifest import MANIFEST, read_about, read_manifest

    if model is None and layer is None and image_size is None and (where / MANIFEST).exists():
        about = read_about(read_manifest(where).current)
        model, revision, layer, image_size = about.load, about.revision, about.layer, about.image_size
    loaded = options.open_model(
        model, device, dtype, revision=revision, layer=layer, image_size=image_size, threads=threads
    )
    name = str(Path(model).resolve()) if model is not None and Path(model).exists() else model
    return loaded, About("", "", 0, load=name, revision=revision, image_size=image_size)


def _settings(where: Path, clip_seconds: float | None, frames: int | None) -> "Settings | None":
    """What is asked for, completed by what the index has; None where nothing is asked for."""
    from midsight.library.index import Settings
    from midsight.library.index.manifest import MANIFEST, read_about, read_manifest

    asked = {key: value for key, value in (("clip_seconds", clip_seconds), ("frames", frames)) if value is not None}
    if not asked:
        return None
    now = read_about(read_manifest(where).current).settings if (where / MANIFEST).exists() else Settings()
    return replace(now, **asked)  # type: ignore[arg-type]  # as the options say


def _run(indexer: "Indexer", as_json: bool) -> "Counter[Did]":
    """Does the work; returns how many files it did what with."""
    done: Counter[Did] = Counter()
    todo = len(indexer.plan.todo) + len(indexer.plan.refused)
    with options.interruptible() as check, show.progress() as bar:
        task = bar.add_task("index", total=todo)
        for outcome in indexer.run():
            check()
            if as_json:
                shown = {"path": str(outcome.path), "did": outcome.did, "result": outcome.result, "rows": outcome.rows}
                show.json_line({**shown, "reason": outcome.reason})
            done[outcome.did] += 1
            if outcome.did == "removed":
                continue
            bar.update(task, advance=1)
            if outcome.reason is not None:
                show.warn(outcome.reason)
    return done


def _tell(indexer: "Indexer", summary: "Summary", done: "Counter[Did]", seconds: float) -> None:
    parts = [
        f"{count} {word}"
        for count, word in (
            (done["embedded"], "read"), (done["copied"], "moved or copied"), (done["removed"], "gone"),
            (indexer.plan.unchanged, "unchanged"),
        )
        if count
    ]  # fmt: skip
    show.note(f"{indexer.root}: {', '.join(parts) or 'nothing to index'}; {seconds:.1f} s")
    show.note(f"{indexer.folder}: {summary.rows} entries of {summary.files} files, by {indexer.about.model}")
    if indexer.recall is not None:
        show.note(f"searches go through an index that finds {indexer.recall:.1%} of the ten nearest; --exact finds all")
    for name, reason in summary.closed.items():
        show.warn(f"{indexer.root / name}: cannot be listed ({reason}); what was known of it is kept")
    if summary.partial:
        show.warn(f"{summary.partial} of {summary.files} files could be read only in part")
    if summary.failed:
        show.warn(
            f"{summary.failed} of {summary.files} files could not be read; midsight index {indexer.root} --failed"
        )
