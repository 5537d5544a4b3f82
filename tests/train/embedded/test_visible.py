"""The list of names for what is seen: which meanings it has, what each is called, and what else each is."""

from pathlib import Path

import pytest

from midsight.errors import InputError
from midsight.library.documents.seen import visible_names
from midsight.train.embedded import visible
from tests.train.embedded import small


class Tokenizer:
    """A token a word, and one more for words of more than seven letters."""

    def __init__(self, path: Path) -> None:
        del path

    def encode(self, text: str) -> list[int]:
        return [0] * sum(1 + (len(word) > 7) for word in text.split())


@pytest.fixture
def wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = small.write_wordnet(tmp_path) / "usr/share/wordnet"
    with (folder / "data.noun").open("a") as file:
        file.write("00000090 03 n 02 wheeled_thing 0 bulb 0 001 @ 00000003 n 0000 | a thing\n")
        file.write("00000091 03 n 01 run 0 001 @ 00000003 n 0000 | a run\n")
    with (folder / "index.noun").open("a") as file:
        file.write("".join(f"{word} n 1 1 @ 1 1 {n}\n" for word, n in (
            ("wheeled_thing", "00000090"), ("bulb", "00000090"), ("run", "00000091")
        )))  # fmt: skip
    (folder / "cntlist.rev").write_text(
        "cat%1:05:00:: 1 18\nrun%1:04:00:: 1 2\nrun%2:38:00:: 1 90\nlimousine%1:06:00:: 1 1\n"
    )
    monkeypatch.setattr(visible, "imagenet_synsets", lambda: list(small.CLASSES))
    monkeypatch.setattr(visible, "visible_synsets", lambda: ["n00000090", "n00000091", "n99999999"])
    monkeypatch.setattr(visible, "smollm2_folder", lambda: tmp_path)
    monkeypatch.setattr(visible, "JsonTokenizer", Tokenizer)
    return folder


def test_classes_what_is_above_them_and_common_things(wordnet: Path) -> None:
    names = visible.visible_names(wordnet)
    assert list(names) == sorted(names)
    assert {name for kind in small.KINDS.values() for name in kind} < set(names)  # classes, common or not
    assert {"cat", "dog", "animal", "vehicle"} < set(names)
    assert not {"entity", "run"} & set(names)  # says too little; mostly a verb
    assert names["siamese"] == ["cat", "animal"]  # the nearest first, without what says too little
    assert (names["bulb"], "wheeled thing" in names) == (["wheeled thing", "vehicle"], False)  # of fewer tokens


def test_people_are_left_out(wordnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "_PERSON", "n00000090")
    assert "bulb" not in visible.visible_names(wordnet)


def test_a_folder_without_counts_is_named(wordnet: Path) -> None:
    (wordnet / "cntlist.rev").unlink()
    with pytest.raises(InputError, match=r"does not hold WordNet's cntlist\.rev"):
        visible.visible_names(wordnet)


def test_the_command_writes_what_is_read(
    wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "names.tsv"
    monkeypatch.setattr(visible, "fetch", lambda name, root: tmp_path)
    monkeypatch.setattr("sys.argv", ["visible", str(out)])
    assert visible.main() == 0
    assert "names" in capsys.readouterr().out
    monkeypatch.setattr("midsight.library.documents.seen.LIST", out)
    assert visible_names() == visible.visible_names(wordnet)
