"""The card of the heads: one table is replaced, the other one stays."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from midsight.api.opened import SHIPPED
from midsight.evaluate.pasted_heads import Called, Row, Share
from midsight.train.embedded_spatial import heads_card, photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("segment", "depth", "detect"):
        shutil.copytree(SHIPPED / name, tmp_path / "heads" / name)
    return tmp_path / "heads"


def test_a_part_that_is_not_given_stays(folder: Path) -> None:
    heads_card.write(folder, scenes="| scenes | 1 |")
    assert (folder / "README.md").read_text().count("(not measured yet)") == 1
    heads_card.write(folder, photographs="| photographs | 2 |")
    heads_card.write(folder, scenes="| scenes | 3 |")
    text = (folder / "README.md").read_text()
    assert "| scenes | 3 |" in text
    assert "| photographs | 2 |" in text
    assert "| scenes | 1 |" not in text
    assert "not measured" not in text


def test_the_shipped_card_is_what_its_template_makes(folder: Path) -> None:
    shutil.copy(SHIPPED / "README.md", folder)
    heads_card.write(folder)
    assert (folder / "README.md").read_text() == (SHIPPED / "README.md").read_text()


def test_tables_and_sentence() -> None:
    share, prior = Share(12.34, 10.0, 15.0), Share(5.0, 4.0, 6.0)
    assert photographs.pasted_table([Row("boxes", share, prior, 40, "things")], 20) == [
        "| 20 composites, % | the heads | without looking | of |",
        "|---|---|---|---|",
        "| boxes | 12.3 (10.0 to 15.0) | 5.0 (4.0 to 6.0) | 40 things |",
    ]
    rows = [Called("sky", 3, 2, share, (80.0, 6.4, 12.3), ""), Called("dish", 1, 1, share, (0, 0, 0), "lamp 84")]
    assert photographs.regions_table(rows)[2:] == [
        "| sky | 3 (2) | 12.3 (10.0 to 15.0) | 80 | 6 | 12 | - |",
        "| dish | 1 (1) | 12.3 | 0 | 0 | 0 | lamp 84 |",
    ]
    told = photographs.scores_told(np.array([0.1, 0.3, 0.05]))
    assert "score of 0.10 (median of 3; the highest is 0.30); 1 of 3 photographs" in told
