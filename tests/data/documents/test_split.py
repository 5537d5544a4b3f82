"""Parts share neither layouts nor fonts."""

from dataclasses import replace
from itertools import combinations

import pytest

from midsight.data.documents import DocumentsConfig
from midsight.data.documents.config import Split
from midsight.data.documents.fonts import Family
from midsight.data.documents.layouts import LAYOUTS
from midsight.data.documents.make import Stock
from midsight.data.documents.split import make_parts
from midsight.errors import ConfigError

APART: tuple[Split, ...] = ("train", "validation", "test_unseen")


def _many(stock: Stock) -> tuple[Family, ...]:
    """Twenty families, ten of them serif, two of them hands."""
    kinds = ["serif"] * 10 + ["sans"] * 8 + ["hand"] * 2
    return tuple(replace(stock.families[0], name=f"F{n}", category=kind) for n, kind in enumerate(kinds))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_no_layout_and_no_font_in_two_parts(stock: Stock, seed: int) -> None:
    for families in (stock.families, _many(stock)):
        parts = make_parts(DocumentsConfig(seed=seed), families)
        for a, b in combinations(APART, 2):
            assert not {f.name for f in parts.families[a]} & {f.name for f in parts.families[b]}
            for kind in LAYOUTS:
                assert not set(parts.layouts[a][kind]) & set(parts.layouts[b][kind])
        for split in APART:
            assert parts.families[split]
            assert all(parts.layouts[split][kind] for kind in LAYOUTS)
        assert {f.name for split in APART for f in parts.families[split]} == {f.name for f in families}
        assert parts.layouts["test_seen"] == parts.layouts["train"]
        assert parts.families["test_seen"] == parts.families["train"]


def test_the_seed_decides(stock: Stock) -> None:
    families = _many(stock)
    first, again, other = (make_parts(DocumentsConfig(seed=seed), families) for seed in (3, 3, 4))
    assert first == again
    assert first.layouts != other.layouts
    assert first == make_parts(DocumentsConfig(seed=3), families[::-1])


def test_every_category_is_measured_where_it_has_enough_families(stock: Stock) -> None:
    parts = make_parts(DocumentsConfig(), _many(stock))
    for split in APART:
        assert {"serif", "sans"} <= {f.category for f in parts.families[split]}


def test_too_few_families(stock: Stock) -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        make_parts(DocumentsConfig(), stock.families[:2])
