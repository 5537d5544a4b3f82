"""Judge the heads that ship for the embedded PE-Spatial on photographs, which they have never seen.

python -m midsight.train.embedded_spatial.photographs --out midsight/assets/embedded_spatial/heads

Prints what goes into the card beside the heads: composites of cut-out photographs on landscapes, with known masks, and
regions of photographs that were marked by eye. The card's other table stays.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from midsight.api import load
from midsight.api.perceive import HEADS_OF, load_perceiver
from midsight.data import packaged
from midsight.data.composites import CompositeConfig, composites, packaged_parts
from midsight.data.regions import regions
from midsight.errors import MidsightError
from midsight.evaluate.pasted_heads import (
    Called,
    Row,
    Share,
    best_scores,
    blind,
    called,
    groups_of,
    look,
    measure_pasted,
)
from midsight.train.embedded_spatial import command, heads_card

SURE = 0.3  # score from which `midsight detect` shows a box, if not told otherwise
_EVERY = 50  # pictures, from one sign of life to the next
_MEASURED, _LAID_OUT = 0, 1  # seeds of the pictures that are judged, and of those that the prior is fitted to
log = logging.getLogger("midsight.train.embedded_spatial.photographs")


def main() -> int:
    """Exit code: 0, or 1 where something cannot be had or written."""
    parser = argparse.ArgumentParser(
        "python -m midsight.train.embedded_spatial.photographs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the three heads and their card")
    parser.add_argument("--packages", type=Path, default=Path("runs/embedded/data"), help="packaged open data")
    parser.add_argument("--count", type=int, default=300, help="composites")
    given = parser.parse_args()
    command.prepare()
    try:
        text = measure(given.out, given.packages, given.count)
        sys.stdout.write(text + "\n")
        heads_card.write(given.out, photographs=text)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def measure(folder: Path, packages: Path, count: int) -> str:
    """The card's part on photographs, Markdown.

    Args:
        folder: of the three heads.
        packages: open data, fetched below it where it is not there.
        count: composites.

    Raises:
        InputError, MissingDependencyError: a package cannot be had.
        CheckpointError: not three heads of the embedded PE-Spatial.
    """
    perceiver = load_perceiver(folder, load(HEADS_OF, "cpu", threads=1))
    config = CompositeConfig()
    parts = packaged_parts(packages, config)
    judged, others = (
        [one for one in composites(*parts, count, seed, config) if one.names] for seed in (_MEASURED, _LAID_OUT)
    )
    groups = groups_of(packaged.everyday(packages))

    def tell(done: int) -> None:
        if done % _EVERY == 0:
            log.info("%d of %d composites", done, len(judged))

    rows = measure_pasted(perceiver, judged, blind(others, groups), groups, tell)
    marked = regions(packages)
    seen = look(perceiver, marked)
    lines = [*pasted_table(rows, len(judged)), "", *regions_table(list(called(seen, marked)))]
    return "\n".join([*lines, "", scores_told(best_scores(seen))])


def scores_told(best: npt.NDArray[np.float64]) -> str:
    """A sentence."""
    sure = int((best >= SURE).sum())
    return (
        f"The surest box of a photograph has a score of {np.median(best):.2f} (median of {len(best)}; the highest is "
        f"{best.max():.2f}); {sure} of {len(best)} photographs have one of {SURE:g} or "
        "more, which is what `midsight detect` shows if not told otherwise."
    )


def pasted_table(rows: Sequence[Row], pictures: int) -> list[str]:
    """Lines of Markdown."""
    top = [f"| {pictures} composites, % | the heads | without looking | of |", "|---|---|---|---|"]
    return top + [f"| {row.title} | {_cell(row.heads)} | {_cell(row.prior)} | {row.count} {row.unit} |" for row in rows]


def regions_table(found: Sequence[Called]) -> list[str]:
    """Lines of Markdown."""
    top = [
        "| what is there | regions (photographs) | called so, % | wall | ground | sky | most other |",
        "|---|---|---|---|---|---|---|",
    ]
    lines = []
    for one in found:
        walls = " | ".join(f"{share:.0f}" for share in one.surroundings)
        counts = f"{one.regions} ({one.photographs})"
        right = _cell(one.right) if one.photographs > 1 else f"{one.right.value:.1f}"  # one tells of no spread
        lines.append(f"| {one.label} | {counts} | {right} | {walls} | {one.other or '-'} |")
    return top + lines


def _cell(share: Share) -> str:
    return f"{share.value:.1f} ({share.low:.1f} to {share.high:.1f})"


if __name__ == "__main__":
    sys.exit(main())
