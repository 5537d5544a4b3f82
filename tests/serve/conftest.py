"""Tiny models, and one server for all tests that need no limits of their own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from midsight.plm import PLM
from tests.plm import tiny
from tests.serve.server import Served, serving, serving_encoder

LONG = tiny.Shape(context_length=2048)


@pytest.fixture(scope="session")
def plm(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny.plm(tmp_path_factory.mktemp("plm"), shape=LONG)


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    """A language model alone."""
    whole = tiny.plm(tmp_path_factory.mktemp("text"), "chatml", shape=LONG)
    config = replace(whole.config, vision=None)
    return PLM(config, whole.language_model, whole.tokenizer).prepare()


@pytest.fixture(scope="session")
def served(tiny_folder: Path) -> Iterator[Served]:
    """One encoder's server for all tests that need no limits of their own."""
    with serving_encoder(tiny_folder) as served:
        yield served


@pytest.fixture(scope="session")
def address(plm: PLM) -> Iterator[str]:
    with serving(plm) as address:
        yield address
