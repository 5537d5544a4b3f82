"""The texts that the text tower learns, and where each of them lies in the shared space.

Names come from WordNet (the nouns that ImageNet's 22k synsets use, which are the things that can be seen), emoji,
clip art and furniture; phrases are put together from them. See `words` for what a text's place says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.data.packaged import Picture
from midsight.data.packages import fetch
from midsight.data.wordnet import WordNet
from midsight.errors import MissingDependencyError
from midsight.train.embedded.sentences import SentenceEncoder
from midsight.train.embedded.words import Words, WordsConfig, build_words, of_meanings, of_neighbours, relatives

_ADJECTIVES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "orange", "grey", "small", "big", "old", "new",
    "wooden", "metal", "plastic", "striped", "round", "long", "young", "wild", "fresh", "cute", "dirty", "shiny",
)  # fmt: skip
_LINKS = ("{a} and {b}", "{a} on a {b}", "{a} next to a {b}", "{a} in a {b}", "{a} with a {b}", "{a} under a {b}")
_VERBS = (
    "running", "sitting", "standing", "lying down", "eating", "flying", "playing", "seen from above", "at night",
    "in the snow", "in the water", "on the grass", "on a table", "in the street", "in the kitchen",
    "on a white background",
)  # fmt: skip
TOO_WIDE = (
    "entity", "physical entity", "object", "physical object", "whole", "unit", "abstraction", "abstract entity",
    "thing", "matter", "artifact", "artefact", "instrumentality", "instrumentation", "causal agent", "cause",
    "causal agency", "living thing", "organism", "being", "group", "grouping", "relation", "attribute",
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """Texts, where each lies in the shared space, and which of them name classes and drawings."""

    texts: list[str]
    names: int  # the first so many are names that WordNet knows
    targets: Tensor  # (N, width), unit rows
    words: Words
    class_names: list[list[int]]  # for each class, the positions of its own names
    broad: Tensor  # positions of the names that cover two classes or more
    captions: list[list[int]]  # for each drawing, the positions of its captions


def imagenet_synsets() -> list[str]:
    """The thousand classes as WordNet ids, in the classifier's order."""
    return list(_timm_info().label_names())


def build(root: Path, drawings: Sequence[Picture], config: WordsConfig, phrases: int, seed: int) -> Vocabulary:
    """The vocabulary over the packaged data below `root`.

    Args:
        drawings: captioned pictures; their order is that of `captions`.
        phrases: how many put-together phrases to add.
        seed: draws the phrases.

    Raises:
        MissingDependencyError: timm (the list of classes) or transformers (the sentence encoder) is not installed.
    """
    wordnet = WordNet(fetch("wordnet-base", root) / "usr/share/wordnet")
    classes = imagenet_synsets()
    covered = {s: c for s, c in wordnet.below(classes).items() if not set(wordnet.synsets[s].names) & set(TOO_WIDE)}
    synsets = sorted((set(visible_synsets()) | set(covered)) & set(wordnet.synsets))
    meanings = _meanings(wordnet, set(synsets), set(classes))
    encoder = SentenceEncoder(root)
    names = list(meanings)
    sentences = as_shown(encoder, names)
    position = {name: row for row, name in enumerate(names)}
    class_names = [[position[n.lower()] for n in wordnet.synsets[s].names if n.lower() in position] for s in classes]
    table = relatives(wordnet, synsets, classes)
    known = of_meanings(meanings, {s: row for row, s in enumerate(synsets)}, table)

    captions = [[caption.lower() for caption in d.captions if caption] for d in drawings]
    others = sorted({c for each in captions for c in each} - set(names))
    plurals = {_plural(name): name for name in names if _plural(name) not in position}
    parts, put = _phrases(names, phrases, np.random.default_rng(seed))
    of_others = as_shown(encoder, others)
    alike = F.normalize(torch.stack([sentences[rows].mean(0) for rows in class_names]), dim=-1)
    rows_of_plurals = torch.tensor([position[name] for name in plurals.values()])
    profiles = torch.cat((
        known + config.likeness * sentences @ alike.T,
        of_neighbours(config, of_others, sentences, known) + config.likeness * of_others @ alike.T,
        known[rows_of_plurals] + config.likeness * sentences[rows_of_plurals] @ alike.T,
        known[parts].mean(1) + config.likeness * encoder(put) @ alike.T,
    ))  # fmt: skip
    words = build_words(config, profiles[: len(names)])
    texts = [*names, *others, *plurals, *put]
    position = {text: row for row, text in enumerate(texts)}
    wide = [row for row, name in enumerate(names) if sum(len(covered.get(s, ())) for s in meanings[name]) >= 2]
    return Vocabulary(
        texts,
        len(names),
        torch.cat([words.text(part) for part in profiles.split(8192)]),
        words,
        class_names,
        torch.tensor(wide),
        [[position[c] for c in each] for each in captions],
    )


def as_shown(encoder: SentenceEncoder, names: Sequence[str]) -> Tensor:
    """Unit rows (N, 384) of names, bare and as what a photograph shows."""
    return F.normalize(encoder(names) + encoder([f"a photo of a {name}" for name in names]), dim=-1)


def _plural(name: str) -> str:
    """Of an English noun, by the regular rule."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2:-1] not in tuple("aeiou ") else f"{name}s"


def _meanings(wordnet: WordNet, wanted: set[str], classes: set[str]) -> dict[str, list[str]]:
    """Name -> its meanings among the wanted ones: the commonest two and the classes, others only where alone."""
    found: dict[str, list[str]] = {}
    for synset in sorted(wanted & set(wordnet.synsets)):
        for name in wordnet.synsets[synset].names:
            found.setdefault(name.lower(), []).append(synset)
    for name, synsets in found.items():
        ranked = sorted(synsets, key=lambda s: wordnet.rank(name, s))
        found[name] = [s for s in ranked if wordnet.rank(name, s) < 2 or s in classes] or ranked[:1]
    return found


def _phrases(names: Sequence[str], count: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
    """Phrases such as "a red toaster", "a fox on a sofa", "a fox running", and the two names each is about (N, 2)."""
    phrases, parts = [], []
    for kind, first, second in zip(rng.integers(0, 3, count), *rng.integers(0, len(names), (2, count)), strict=True):
        a, b = names[first], names[second]
        parts.append((first, second if kind == 1 else first))
        if kind == 0:
            phrases.append(f"{rng.choice(_ADJECTIVES)} {a}")
        elif kind == 1:
            phrases.append(str(rng.choice(_LINKS)).format(a=a, b=b))
        else:
            phrases.append(f"{a} {rng.choice(_VERBS)}")
    return torch.tensor(np.array(parts)), phrases


def visible_synsets() -> list[str]:
    """ImageNet's 22k synsets, as timm lists them."""
    _timm_info()  # says what is missing without timm
    listed = files("timm.data") / "_info" / "imagenet22k_synsets.txt"
    return listed.read_text(encoding="utf-8").split()


def _timm_info() -> Any:
    try:
        from timm.data import ImageNetInfo  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingDependencyError(
            "the list of ImageNet classes needs timm: pip install 'midsight[train]'"
        ) from error
    return ImageNetInfo()
