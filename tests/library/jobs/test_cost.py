"""Arithmetic that is held against figures by hand."""

import pytest

from midsight.errors import InputError
from midsight.library.jobs.cost import cost_per_million, hours_per_million


def test_a_million_at_a_hundred_a_second() -> None:
    assert hours_per_million(100) == pytest.approx(2.7778, abs=1e-4)  # 10 000 seconds
    assert cost_per_million(100, price_per_hour=3.6) == pytest.approx(10.0)
    assert cost_per_million(400, price_per_hour=3.6, machines=4) == pytest.approx(10.0), (
        "as many machines, as much less time"
    )


@pytest.mark.parametrize("arguments", [(0, 1.0), (-1, 1.0), (1, -1.0), (float("nan"), 1.0), (1, 1.0, 0)])
def test_what_cannot_be(arguments: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        cost_per_million(*arguments)  # type: ignore[arg-type]
