"""WordNet's files: names, what is a kind of what, and which classes a broader name covers."""

from pathlib import Path

import pytest

from midsight.data.wordnet import WordNet
from midsight.errors import InputError

DATA = """\
  1 a licence line
00000001 03 n 01 animal 0 000 | a living thing that moves; "an animal"
00000002 03 n 02 dog 0 domestic_dog 0 001 @ 00000001 n 0000 | a barking animal
00000003 03 n 01 cat 0 001 @ 00000001 n 0000 | a purring animal
00000004 03 n 01 Rex 0 002 @i 00000002 n 0000 + 00000009 v 0101 | one dog
"""
INDEX = """\
  1 a licence line
animal n 1 1 ~ 1 1 00000001
cat n 2 1 @ 2 1 00000003 00000001
dog n 1 1 @ 1 1 00000002
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return WordNet(tmp_path)


def test_synsets(wordnet: WordNet) -> None:
    assert wordnet.synsets["n00000002"].names == ("dog", "domestic dog")
    assert wordnet.synsets["n00000001"].gloss == "a living thing that moves"
    assert wordnet.synsets["n00000004"].parents == ("n00000002",)
    assert wordnet.children["n00000001"] == ["n00000002", "n00000003"]


def test_ancestors_and_covered_classes(wordnet: WordNet) -> None:
    assert wordnet.ancestors("n00000004") == {"n00000004": 0, "n00000002": 1, "n00000001": 2}
    covered = wordnet.below(["n00000004", "n00000003"])
    assert covered["n00000001"] == {0, 1}
    assert covered["n00000002"] == {0}


def test_rank_of_a_meaning(wordnet: WordNet) -> None:
    assert wordnet.rank("cat", "n00000003") == 0
    assert wordnet.rank("Cat", "n00000001") == 1
    assert wordnet.rank("cat", "n00000002") == 2


def test_a_folder_without_wordnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.noun"):
        WordNet(tmp_path)
