"""Every kind of data set, as a fixture."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data import small_sets


@pytest.fixture(params=small_sets.MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[Path, int], Path]:
    """Makes a data set of `count` samples at a path, and says what to open."""
    return small_sets.MAKERS[request.param]
