"""Texts and their places, over a WordNet of thirty meanings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from midsight.data.wordnet import WordNet
from midsight.train.embedded import vocabulary
from tests.train.embedded import small


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cats"), ("bus", "buses"), ("fox", "foxes"), ("waltz", "waltzes"), ("church", "churches"),
        ("brush", "brushes"), ("puppy", "puppies"), ("monkey", "monkeys"), ("police buoy", "police buoys"),
    ],
)  # fmt: skip
def test_plurals(name: str, expected: str) -> None:
    assert vocabulary._plural(name) == expected


def test_phrases_name_what_they_are_about() -> None:
    names = ["tabby", "canoe", "fig"]
    parts, phrases = vocabulary._phrases(names, 300, np.random.default_rng(0))
    assert parts.shape == (300, 2)
    two = 0
    for (first, second), phrase in zip(parts.tolist(), phrases, strict=True):
        assert names[first] in phrase
        assert names[second] in phrase
        linked = any(phrase == link.format(a=names[first], b=names[second]) for link in vocabulary._LINKS)
        assert linked or first == second
        two += linked
    assert 60 < two < 140  # a third
    again = vocabulary._phrases(names, 300, np.random.default_rng(0))
    assert phrases == again[1]
    assert phrases != vocabulary._phrases(names, 300, np.random.default_rng(1))[1]


def test_meanings_of_a_name_are_its_common_ones_and_the_classes(tmp_path: Path) -> None:
    lines = [
        f"{n:08d} 03 n 01 {name} 0 000 | x" for n, name in enumerate(("Crane", "crane", "crane", "crane", "owl"), 1)
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n")
    order = " ".join(f"{n:08d}" for n in (2, 3, 1, 4))
    (tmp_path / "index.noun").write_text(f"crane n 4 1 @ 4 4 {order}\nowl n 3 1 @ 3 3 00000008 00000009 00000005\n")
    wordnet, all_five = WordNet(tmp_path), {f"n{n:08d}" for n in range(1, 6)}
    found = vocabulary._meanings(wordnet, all_five, {"n00000004"})
    assert found["crane"] == ["n00000002", "n00000003", "n00000004"]  # the third in rank is no class
    assert found["owl"] == ["n00000005"]  # not common, but alone
    assert vocabulary._meanings(wordnet, {"n00000001"}, set()) == {"crane": ["n00000001"]}


def test_texts_and_positions(words: vocabulary.Vocabulary) -> None:
    assert len(words.texts) == len(words.targets)
    assert len(set(words.texts[: words.names])) == words.names
    assert set(words.texts[: words.names]) == set(small.IDS) - {"entity"}  # too wide to be a name
    assert [words.texts[rows[0]] for rows in words.class_names] == [n for names in small.KINDS.values() for n in names]
    assert [[words.texts[row] for row in rows] for rows in words.captions] == [
        ["beagle", "puppy"], ["smiling face"], ["red apple", "fruit", "snack"],
    ]  # fmt: skip
    assert {words.texts[row] for row in words.broad.tolist()} == {"animal", "vehicle", *small.KINDS}
    assert "canoes" in words.texts
    assert words.targets.shape[1] == small.WORDS.width
    torch.testing.assert_close(words.targets.norm(dim=-1), torch.ones(len(words.texts)))


def test_places_follow_wordnet(words: vocabulary.Vocabulary) -> None:
    """A picture of one class asks for its own name, then for its kind, and for its plural as for its name."""
    images = words.words.image(torch.eye(len(small.CLASSES)))
    at = {text: row for row, text in enumerate(words.texts)}
    for kind, names in small.KINDS.items():
        for name in names:
            scores = images[small.CLASSES.index(small.IDS[name])] @ words.targets.T
            others = [n for k, own in small.KINDS.items() if k != kind for n in own]
            assert scores[at[name]] > scores[[at[n] for n in others]].max()
            assert scores[at[kind]] > scores[[at[k] for k in small.KINDS if k != kind]].max()
            torch.testing.assert_close(scores[at[vocabulary._plural(name)]], scores[at[name]])


def test_the_seed_decides_the_phrases(world: Path, words: vocabulary.Vocabulary) -> None:
    again = small.build_vocabulary(world)
    assert again.texts == words.texts
    torch.testing.assert_close(again.targets, words.targets)
    other = vocabulary.build(world, small.drawings(world), small.WORDS, 40, seed=1)
    assert other.texts[:-40] == words.texts[:-40]
    assert other.texts[-40:] != words.texts[-40:]


def test_the_thousand_classes_in_the_classifiers_order() -> None:
    found = vocabulary.imagenet_synsets()
    assert (len(found), len(set(found))) == (1000, 1000)
    assert (found[0], found[1], found[281], found[999]) == ("n01440764", "n01443537", "n02123045", "n15075141")
    assert len(vocabulary.visible_synsets()) > 20_000


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from midsight.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(MissingDependencyError, match=r"midsight\[train\]"):
        vocabulary.imagenet_synsets()
