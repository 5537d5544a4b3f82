"""The entry point. Here alone an error of the library becomes a message and an exit code.

Exit codes: 0 all done; 1 some inputs failed, or the result could not be written; 2 wrong usage; 130 Ctrl-C.
"""

import atexit
import gc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from midsight.cli import (
    ask,
    attention,
    checkpoint,
    classify,
    collection,
    data,
    demo,
    dense,
    embed,
    explore,
    export,
    features,
    index,
    layers,
    match,
    models,
    moderate,
    options,
    plm,
    search,
    serve,
    show,
    track,
    train,
    train_dense,
    train_lang,
)
from midsight.errors import ExportError, MediaError, MidsightError, OutputError, TrainingError

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class _Group(TyperGroup):
    """The group of commands, with midsight's errors shown in one line."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an error becomes a message and an exit code."""
        try:
            with options.readable_warnings():
                return super().invoke(ctx)
        except MidsightError as error:
            show.fail(error)
            failed = isinstance(error, ExportError | MediaError | OutputError | TrainingError)
            raise typer.Exit(FAILED if failed else USAGE) from None
        except KeyboardInterrupt:
            show.warn("stopped")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Perception Encoder: classify, embed and understand pictures and videos.",
)
app.command()(classify.classify)
app.command()(embed.embed)
app.command()(index.index)
app.command()(search.search)
app.command()(collection.dedupe)
app.command()(collection.cluster)
app.command()(collection.tag)
app.command()(features.features)
app.command()(layers.layers)
app.command()(match.match)
app.command()(attention.attention)
app.command()(explore.explore)
app.command()(track.track)
app.command()(dense.detect)
app.command()(dense.segment)
app.command()(dense.depth)
app.command()(dense.perceive)
app.command()(ask.ask)
app.command()(models.models)
app.command()(checkpoint.info)
app.command()(checkpoint.convert)
app.command()(export.export)
app.command()(demo.demo)
app.command()(serve.serve)
app.add_typer(data.app, name="data")
app.add_typer(plm.app, name="plm")
app.add_typer(moderate.app, name="moderate")
train.app.command()(train_dense.segment)
train.app.command()(train_dense.depth)
train.app.command()(train_lang.lang)
app.add_typer(train.app, name="train")


def _version(wanted: bool) -> None:
    if wanted:
        import midsight

        typer.echo(f"midsight {midsight.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    atexit.register(gc.freeze)  # or Python looks for cyclic garbage among all that was imported, only to leave
    app(prog_name="midsight")


if __name__ == "__main__":
    main()
