"""Sentences out of WordNet's file, icons out of their package."""

from pathlib import Path

import pytest

from midsight.data.documents.icons import NAMED, coloured, find_icons
from midsight.data.documents.sentences import find_sentences
from midsight.errors import InputError

LINES = """  1 This software and database is being provided
00001740 06 n 01 kettle 0 001 @ 00002000 n 0000 | a metal pot for stewing or boiling; usually has a lid
00001741 05 n 01 eft 0 000 | a newt in its terrestrial stage of development
00001742 06 n 01 oar 0 000 | an implement used to propel or steer a boat
00001743 04 n 01 act 0 000 | a deed that someone does on purpose and in public
00001744 06 n 01 Big_Ben 0 000 | a clock in the tower of a palace by the river
00001745 06 n 01 pot 0 000 | metal pot
"""


def _unpacked(root: Path, text: str) -> Path:
    folder = root / "wordnet-base/usr/share/wordnet"
    folder.mkdir(parents=True)
    (folder / "data.noun").write_text(text)
    (root / "wordnet-base/.complete").touch()
    return root


def test_definitions_become_sentences(tmp_path: Path) -> None:
    found, why = find_sentences(_unpacked(tmp_path, LINES))
    assert why == ""
    assert found == (
        "A kettle is a metal pot for stewing or boiling.",
        "An eft is a newt in its terrestrial stage of development.",
        "An oar is an implement used to propel or steer a boat.",
    )


def test_a_file_without_definitions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no definitions"):
        find_sentences(_unpacked(tmp_path, "nothing\n"))


def test_icons_are_read_and_coloured(tmp_path: Path) -> None:
    folder = tmp_path / "bootstrap-icons/package/icons"
    folder.mkdir(parents=True)
    (tmp_path / "bootstrap-icons/.complete").touch()
    with pytest.raises(InputError, match="lacks airplane"):
        find_icons(tmp_path)
    for name in NAMED:
        (folder / f"{name}.svg").write_text('<svg fill="currentColor"/>')
    icons, why = find_icons(tmp_path)
    assert why == ""
    assert set(icons) == set(NAMED)
    assert coloured(icons, "sun", "#102030") == '<svg fill="#102030"/>'
