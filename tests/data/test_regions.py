"""Regions marked by eye: where they are, which photograph they are of, labels that the heads know."""

import csv
from pathlib import Path

import numpy as np
import pytest

from midsight.data.regions import TABLE, Region, read_regions
from midsight.data.scenes.folders import CLASSES
from midsight.errors import InputError


def test_a_region_is_its_part_of_the_picture() -> None:
    page = np.zeros((100, 200), int)
    page[20:50, 20:120] = 1
    part = page[Region(Path("a"), "sky", (0.1, 0.2, 0.6, 0.5)).within(page.shape)]
    assert part.shape == (30, 100)
    assert part.all()
    assert page[Region(Path("a"), "sky", (0.5, 0.5, 0.5, 0.5)).within(page.shape)].shape == (1, 1)


def test_a_table_names_one_photograph_each(tmp_path: Path) -> None:
    table = tmp_path / "regions.csv"
    table.write_text("package,file,label,left,top,right,bottom\np,sea/1.jpg,sky,0,0.1,1,0.5\n")
    photographs = [("p", Path("/x/sea/1.jpg")), ("p", Path("/x/hill/1.jpg")), ("q", Path("/y/sea/1.jpg"))]
    assert read_regions(table, photographs) == [Region(Path("/x/sea/1.jpg"), "sky", (0.0, 0.1, 1.0, 0.5))]
    with pytest.raises(InputError, match=r"sea/1.jpg: 0 photographs of p; expected one"):
        read_regions(table, photographs[1:])
    with pytest.raises(InputError, match="2 photographs of p"):
        read_regions(table, [*photographs, ("p", Path("/z/sea/1.jpg"))])


def test_the_shipped_table_can_be_judged() -> None:
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} <= set(CLASSES)
    assert {row["label"] for row in rows} >= {"sky", "ground", "wall", "person", "animal"}
    for row in rows:
        left, top, right, bottom = (float(row[edge]) for edge in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= 1, row
        assert 0 <= top < bottom <= 1, row
