"""The fonts that matplotlib brings, and icons made on the spot: no package is fetched."""

import pytest

from midsight.data.documents.fonts import checked, matplotlib_families
from midsight.data.documents.icons import NAMED
from midsight.data.documents.make import Stock

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" fill="currentColor">'
    '<rect x="{n}" y="2" width="6" height="12"/></svg>'
)


@pytest.fixture(scope="session")
def stock() -> Stock:
    """Four families, one square an icon, no sentences but the built-in ones."""
    icons = {name: _ICON.format(n=n % 10) for n, name in enumerate(NAMED)}
    return Stock(checked(matplotlib_families()), icons, ())
