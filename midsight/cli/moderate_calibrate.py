"""`midsight moderate calibrate`: thresholds from labelled files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.library.moderate.fitting import Fitted

RECALL = 0.9  # where nothing else is asked for
PolicyFile = Annotated[
    Path,
    typer.Option("--policy", "-p", help="What to look for; `midsight moderate example` shows one.", show_default=False),
]
DecisionFiles = Annotated[
    list[Path] | None,
    typer.Option("--decisions", help="Decisions of the review page (JSONL); may be repeated.", show_default=False),
]


def calibrate(
    policy: PolicyFile,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV: file, then a column of yes or no for each category.", show_default=False),
    ] = None,
    decisions: DecisionFiles = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help=f"Recall to reach. Default: {RECALL}.", show_default=False)
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision", help="Precision to reach instead; with --recall, that is for review.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Policy to write. Default: in place; the old one is kept.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Precision-recall curves. Default: POLICY.png beside it.", show_default=False),
    ] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw none.")] = False,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
) -> None:
    """Thresholds from about 50 labelled files: the ones that reach a wanted recall or precision.

    With both, files of the wanted precision are flagged, and those below that it takes for the wanted recall are for
    review. What is printed for new files: each labelled file judged by the threshold of all others, with Wilson's 95 %
    interval. It holds for files of the same mix: where a category is rarer than among the labelled files, precision is
    lower.

    Example: midsight moderate calibrate --policy policy.yaml --labels labels.csv --recall 0.9
    """
    from midsight.library.moderate.calibrate import Target
    from midsight.library.moderate.labels import merged, read_decisions, read_labels
    from midsight.library.moderate.plot import check_matplotlib
    from midsight.library.moderate.reading import read_policy

    wanted = read_policy(policy)
    targets = [] if precision is None else [Target("precision", precision)]
    targets += [] if recall is None else [Target("recall", recall)]
    known = {} if labels is None else read_labels(labels, wanted.names)
    for path in decisions or ():
        known = merged(known, read_decisions(path, wanted.names))
    if not known:
        raise InputError("no labelled files; give --labels, or --decisions, or both")
    if not no_plot:
        check_matplotlib()
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    from midsight.library.moderate.fitting import fit_policy

    with show.progress() as bar:
        task = bar.add_task("score", total=len(known))
        done = fit_policy(
            loaded, wanted, known, targets or [Target("recall", RECALL)], batch_size, tick=lambda: bar.advance(task)
        )
    _write(done, policy, output or policy, None if no_plot else plot or (output or policy).with_suffix(".png"))
    _report(done)


def _write(done: "Fitted", policy: Path, output: Path, plot: Path | None) -> None:
    from midsight.files import atomic_write
    from midsight.library.moderate.plot import plot_curves
    from midsight.library.moderate.reading import read_text
    from midsight.library.moderate.writing import with_thresholds, write_policy

    if any(fit.threshold is not None for fit in done.fits):
        text = with_thresholds(read_text(policy), done.policy, str(output), output.resolve().parent)
        kept = write_policy(text, output)
        show.note(f"{output}: calibrated" + ("" if kept is None else f"; the old one is {kept}"))
    else:
        show.warn(f"{policy}: no threshold was found, so it stays as it is")
    if plot is not None:
        drawn = plot_curves(done.fits)
        with atomic_write(plot) as file:
            file.write(drawn)
        show.note(f"{plot}: precision-recall curves")


def _report(done: "Fitted") -> None:
    """The table, then what makes its figures weak; exit code 1 where something asked for is missing."""
    rows = [
        (
            fit.category, str(fit.target), "none" if fit.threshold is None else f"{fit.threshold:g}",
            f"{int(fit.labels.sum())} and {int((~fit.labels).sum())}", fit.new_precision, fit.new_recall,
        )
        for fit in done.fits
    ]  # fmt: skip
    show.table(("category", "wanted", "threshold", "yes and no", "precision on new files", "recall on new files"), rows)
    show.note(
        f"On new files: each of the {done.files} labelled files judged by the threshold of all others, with Wilson's "
        "95 % interval. For files of the same mix; where a category is rarer, precision is lower."
    )
    weak = [f"{fit.category}: {warning}" for fit in done.fits for warning in fit.warnings]
    for message in (*dict.fromkeys(weak), *done.skipped, *done.failures):
        show.warn(message)
    if any(fit.threshold is None for fit in done.fits):
        raise typer.Exit(1)
    show.failures(len(done.failures), done.files + len(done.failures))
