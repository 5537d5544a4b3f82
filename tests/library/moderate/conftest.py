"""A small policy over the shipped pictures."""

from pathlib import Path

import pytest

import midsight
from midsight.library.moderate import Category, Policy

DEMO = Path(midsight.__file__).parent / "assets" / "demo"


@pytest.fixture(scope="session")
def demo() -> Path:
    """The folder of the shipped media: a cat, coffee, a motorcycle, a rocket, and a clip of a temple."""
    return DEMO


@pytest.fixture(scope="session")
def embedded() -> midsight.Perception:
    return midsight.load()


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy(
        (
            Category("vehicles", ("a motorcycle", "a car")),
            Category("temples", ("a temple", "a castle"), ("a bus stop",)),
            Category("cats", ("a cat",), threshold=0.9999, review=0.5),
        ),
        segment_seconds=2,
        frames=2,
    )
