"""`midsight moderate review`: a page on which a person decides about what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import show
from midsight.cli.moderate_calibrate import DecisionFiles
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.library.moderate.labels import Labels


def review(
    verdicts: Annotated[Path, typer.Argument(help="File of `midsight moderate --jsonl`.", metavar="VERDICTS")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write (.html).")] = Path("review.html"),
    decisions: DecisionFiles = None,
    passing: Annotated[
        int,
        typer.Option("--passing", min=0, help="Also so many files of each category that pass, highest scores first."),
    ] = 0,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Most cards: the gravest verdicts and highest scores.")
    ] = 1000,
) -> None:
    """One HTML page with a card for everything that is flagged, for review, or not readable: is it so, yes or no?

    The page is self-contained and works by keyboard. Its decisions are downloaded as decisions.jsonl, which
    `calibrate` and `review` read by --decisions. Run it in the folder that `midsight moderate` ran in.

    Example: midsight moderate review verdicts.jsonl -o review.html
    """
    from midsight.files import atomic_write
    from midsight.library.moderate.job import read_verdicts
    from midsight.library.moderate.labels import merged, read_decisions
    from midsight.library.moderate.review import review_page

    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: the page is HTML; give a name that ends in .html")
    found = read_verdicts(verdicts)
    taken: Labels = {}
    for path in decisions or ():
        taken = merged(taken, read_decisions(path))
    with show.progress() as bar:
        task = bar.add_task("previews", total=None)
        page = review_page(
            found, output.resolve().parent, taken, passing=passing, limit=limit, tick=lambda: bar.advance(task)
        )
    data = page.encode()
    with atomic_write(output) as file:
        file.write(data)
    show.note(f"{output}: {len(data) / 2**20:.1f} MiB; open it in a browser")
