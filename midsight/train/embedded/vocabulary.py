"""The texts that the text tower learns, and how much each ImageNet class is an example of each name.

Names come from WordNet (the nouns that ImageNet's 22k synsets use, which are the things that can be seen), emoji,
clip art and furniture; phrases are put together from them. `affinity` is what ties names to pictures: a class
counts fully for the names above it (a tabby is a cat, a mammal, an animal), and a little for names near it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midsight.data.packaged import Picture
from midsight.data.packages import fetch
from midsight.data.wordnet import WordNet
from midsight.errors import MissingDependencyError
from midsight.train.embedded.sentences import SentenceEncoder

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
_TOO_WIDE = (
    "entity", "physical entity", "object", "physical object", "whole", "unit", "abstraction", "abstract entity",
    "thing", "matter", "artifact", "artefact", "instrumentality", "instrumentation", "causal agent", "cause",
    "causal agency", "living thing", "organism", "being", "group", "grouping", "relation", "attribute",
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """Texts with their sentence embeddings; the first `names` of them have an affinity to the ImageNet classes."""

    texts: list[str]
    sentences: Tensor  # (N, 384), unit rows
    affinity: Tensor  # (names, 1000), in [0, 1]
    class_names: list[list[int]]  # for each class, the positions of its own names
    broad: Tensor  # (names,), bool: names that cover two classes or more
    captions: list[list[int]]  # for each drawing, the positions of its captions

    @property
    def names(self) -> int:
        return len(self.affinity)


def imagenet_synsets() -> list[str]:
    """The thousand classes as WordNet ids, in the classifier's order."""
    return list(_timm_info().label_names())


def build(root: Path, drawings: Sequence[Picture], phrases: int, seed: int) -> Vocabulary:
    """The vocabulary over the packaged data below `root`.

    Args:
        drawings: captioned pictures, in the order of the feature cache.
        phrases: how many put-together phrases to add.
        seed: draws the phrases.

    Raises:
        MissingDependencyError: timm (the list of classes) or transformers (the sentence encoder) is not installed.
    """
    wordnet = WordNet(fetch("wordnet-base", root) / "usr/share/wordnet")
    classes = imagenet_synsets()
    covered = {s: c for s, c in wordnet.below(classes).items() if not set(wordnet.synsets[s].names) & set(_TOO_WIDE)}
    meanings = _meanings(wordnet, set(_visible_synsets()) | set(covered), set(classes))
    captions = [[caption.lower() for caption in d.captions if caption] for d in drawings]
    extra = sorted({c for each in captions for c in each} - set(meanings))
    names = [*meanings, *extra]
    texts = [*names, *_phrases(names, phrases, np.random.default_rng(seed))]
    sentences = SentenceEncoder(root)(texts)
    position = {text: index for index, text in enumerate(names)}
    exact = torch.zeros(len(names), len(classes))
    for name, synsets in meanings.items():
        for synset in synsets:
            exact[position[name], list(covered.get(synset, ()))] = 1.0
    class_names = [[position[n.lower()] for n in wordnet.synsets[s].names if n.lower() in position] for s in classes]
    return Vocabulary(
        texts,
        sentences,
        _with_neighbours(exact, sentences[: len(names)], class_names),
        class_names,
        (exact.sum(1) >= 2),
        [[position[c] for c in each] for each in captions],
    )


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


def _with_neighbours(exact: Tensor, sentences: Tensor, class_names: list[list[int]]) -> Tensor:
    """Fill the rows of names without any class by likeness of meaning, at most 0.5: a giraffe is a bit of a zebra."""
    centre = torch.stack([sentences[rows].mean(0) for rows in class_names])
    near = (sentences @ torch.nn.functional.normalize(centre, dim=-1).T).clamp(min=0)
    return torch.where((exact.sum(1) == 0)[:, None], 0.5 * near**4, exact)


def _phrases(names: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Phrases such as "a red toaster", "a fox on a sofa", "a fox running"."""
    phrases = []
    for kind, first, second in zip(rng.integers(0, 3, count), *rng.integers(0, len(names), (2, count)), strict=True):
        a, b = names[first], names[second]
        if kind == 0:
            phrases.append(f"{rng.choice(_ADJECTIVES)} {a}")
        elif kind == 1:
            phrases.append(str(rng.choice(_LINKS)).format(a=a, b=b))
        else:
            phrases.append(f"{a} {rng.choice(_VERBS)}")
    return phrases


def _visible_synsets() -> list[str]:
    """ImageNet's 22k synsets, as timm lists them."""
    import importlib.resources

    _timm_info()
    listed = importlib.resources.files("timm.data") / "_info" / "imagenet22k_synsets.txt"
    return listed.read_text(encoding="utf-8").split()


def _timm_info() -> Any:
    try:
        from timm.data import ImageNetInfo  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingDependencyError(
            "the list of ImageNet classes needs timm: pip install 'midsight[train]'"
        ) from error
    return ImageNetInfo()
