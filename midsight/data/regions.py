"""Regions of photographs that show one thing alone, marked by eye: for measuring only.

The photographs are those of `packaged.unseen_photographs`. A region is a rectangle well inside of what it is named
after; what lies between the regions is not labelled.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from midsight.data import packaged
from midsight.errors import InputError

TABLE = Path(__file__).parent / "regions.csv"  # package, end of the file's path, label, edges in parts of the sides


@dataclass(frozen=True)
class Region:
    """A rectangle of a photograph."""

    path: Path
    label: str  # one of `midsight.data.scenes.folders.CLASSES`
    box: tuple[float, float, float, float]  # left, top, right, bottom, in parts of the picture's sides

    def within(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Rows and columns of a picture of (height, width)."""
        (left, right), (top, bottom) = (
            (round(self.box[k] * shape[1 - k]), round(self.box[k + 2] * shape[1 - k])) for k in (0, 1)
        )
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def regions(root: Path) -> list[Region]:
    """All marked regions, of packages fetched below `root`.

    Raises:
        InputError: a package cannot be had, or holds no such photograph.
    """
    return read_regions(TABLE, [(one.source, one.path) for one in packaged.unseen_photographs(root)])


def read_regions(table: Path, photographs: list[tuple[str, Path]]) -> list[Region]:
    """Regions of a table.

    Args:
        photographs: package and file.

    Raises:
        InputError: a photograph that is not among them, or more than one.
    """
    found = []
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            own = [p for source, p in photographs if source == row["package"] and p.as_posix().endswith(row["file"])]
            if len(own) != 1:
                raise InputError(f"{table}: {row['file']}: {len(own)} photographs of {row['package']}; expected one")
            left, top, right, bottom = (float(row[edge]) for edge in ("left", "top", "right", "bottom"))
            found.append(Region(own[0], row["label"], (left, top, right, bottom)))
    return found
