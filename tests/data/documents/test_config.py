"""Which configurations can be."""

from typing import Any

import pytest

from midsight.data.documents import KINDS, DocumentsConfig, documents_of
from midsight.errors import ConfigError


@pytest.mark.parametrize("total", [1, 7, 100, 1234])
def test_a_total_is_spread_whole(total: int) -> None:
    counts = documents_of(total)
    assert sum(counts.values()) == total
    assert set(counts) == set(KINDS)


def test_other_parts_have_a_share_and_at_least_one() -> None:
    config = DocumentsConfig({"card": 200, "chart": 3}, other_share=0.1)
    assert [config.count("train", k) for k in ("card", "chart", "form")] == [200, 3, 0]
    assert [config.count("test_unseen", k) for k in ("card", "chart", "form")] == [20, 1, 0]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"counts": {"poem": 3}}, "poem"),
        ({"counts": {"card": -1}}, "-1"),
        ({"counts": {"card": 0}}, "not all 0"),
        ({"other_share": 0.0}, "other_share"),
        ({"held_out_share": 0.5}, "held_out_share"),
        ({"clean_share": 1.5}, "clean_share"),
        ({"min_side": 900, "max_side": 500}, "900"),
        ({"max_side": 10000}, "max_side"),
        ({"min_text": 3.0}, "min_text"),
        ({"max_side": 448, "min_text": 20.0}, "28th"),
        ({"max_questions": 0}, "max_questions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DocumentsConfig(**values)


def test_a_total_below_one() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        documents_of(0)
