"""The folder and the stand-in checkpoints that pages and the notebook run with."""

from pathlib import Path

import pytest

from tests.docs import sandbox


@pytest.fixture(scope="session")
def weight_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache of random weights, 280 MB."""
    return sandbox.write_cache(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def docs_folder(tmp_path: Path, weight_cache: Path):
    """The current folder while a page runs."""
    with sandbox.entered(sandbox.lay_out(tmp_path), weight_cache):
        yield tmp_path
