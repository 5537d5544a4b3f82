"""The tiny world in place of the packages that training fetches."""

from pathlib import Path

import pytest

from midsight.train.embedded import trunk, vocabulary
from tests.train.embedded import small


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for data; WordNet, the classes, the sentence encoder and the trunk are the tiny ones meanwhile."""
    wordnet = small.write_wordnet(tmp_path / "wordnet")
    monkeypatch.setattr(vocabulary, "fetch", lambda name, root: {"wordnet-base": wordnet}[name])
    monkeypatch.setattr(vocabulary, "imagenet_synsets", lambda: list(small.CLASSES))
    monkeypatch.setattr(vocabulary, "visible_synsets", lambda: [small.IDS[n] for n in small.IDS if n != "entity"])
    monkeypatch.setattr(vocabulary, "SentenceEncoder", small.Sentences)
    monkeypatch.setattr(trunk, "load_trunk", lambda root: small.trunk())
    return tmp_path


@pytest.fixture
def words(world: Path) -> vocabulary.Vocabulary:
    return small.build_vocabulary(world)
