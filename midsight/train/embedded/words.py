"""The space that pictures and texts share, put together before anything is trained: which picture each text asks for.

A text's profile says how much each of the thousand ImageNet classes is what it names: fully for the names above a
class (a tabby is a cat, a mammal, an animal), partly for its relatives in WordNet (Lin's likeness, squared), and as
far as the sentence encoder finds them alike. The score of a picture for a text is then the sum over classes of the
classifier's probability times the profile. A truncated SVD of all profiles makes that a product of two short vectors,
one for each text and one for each class; a last coordinate, 0 for pictures, gives all texts one length, so that
cosines rank as the products do.

Sources: Lin, "An information-theoretic definition of similarity" (ICML 1998); the coordinate that turns largest inner
product into largest cosine is that of Bachrach et al., "Speeding up the Xbox recommender system" (RecSys 2014).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.data.wordnet import WordNet


@dataclass(frozen=True)
class WordsConfig:
    """The shared space."""

    width: int = 320
    likeness: float = 1.0  # weight of what the sentence encoder finds alike, beside WordNet
    neighbours: int = 8  # names that lend their relatives to a text that WordNet does not know
    sharpness: float = 20.0  # how much nearer neighbours count
    longest: float = 0.99  # quantile of the texts' lengths that becomes the length of all; the few longer are cut


@dataclass(frozen=True)
class Words:
    """Classes (1000, width), of any length, and the axes that take profiles there."""

    classes: Tensor
    length: float

    def image(self, probabilities: Tensor) -> Tensor:
        """Unit embeddings (B, width) of pictures that a classifier gave these probabilities (B, 1000)."""
        return F.normalize(probabilities @ self.classes, dim=-1)

    def text(self, profiles: Tensor) -> Tensor:
        """Unit embeddings (N, width) of texts with these profiles (N, 1000)."""
        short = profiles @ self.classes[:, :-1]
        short = short * (self.length / short.norm(dim=-1, keepdim=True)).clamp(max=1)
        rest = (self.length**2 - short.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat((short, rest), -1) / self.length


def build_words(config: WordsConfig, profiles: Tensor) -> Words:
    """The space of the given width that keeps most of the profiles (N, 1000)."""
    axes = torch.linalg.eigh(profiles.T @ profiles).eigenvectors[:, -(config.width - 1) :]  # 1000, width - 1
    lengths = (profiles @ axes).norm(dim=-1)
    length = float(lengths.kthvalue(max(round(config.longest * len(lengths)), 1)).values)
    return Words(F.pad(axes, (0, 1)), length)


def relatives(wordnet: WordNet, synsets: Sequence[str], classes: Sequence[str]) -> Tensor:
    """How much each class is what a meaning names, (meanings, 1000): 1 for what it covers, plus Lin's likeness squared.

    How much a meaning says is counted over `synsets`: the fewer of them lie below it, the more. Each row is divided by
    the root of its length, so that names of many classes do not drown those of few.
    """
    position = {synset: row for row, synset in enumerate(synsets)}
    below: dict[str, list[int]] = {}
    above = {synset: wordnet.ancestors(synset) for synset in {*synsets, *classes}}
    for synset in synsets:
        for ancestor in above[synset]:
            below.setdefault(ancestor, []).append(position[synset])
    says = {ancestor: -math.log(len(rows) / len(synsets)) for ancestor, rows in below.items()}
    own = torch.tensor([says[synset] for synset in synsets])
    found = torch.zeros(len(synsets), len(classes))
    for column, synset in enumerate(classes):
        shared = torch.zeros(len(synsets))
        known = [ancestor for ancestor in above[synset] if ancestor in says]
        for ancestor in sorted(known, key=says.__getitem__):  # what says more overwrites
            shared[below[ancestor]] = says[ancestor]
        alike = 2 * shared / (own + says.get(synset, math.log(len(synsets)))).clamp(min=1e-6)
        found[:, column] = alike.square()
        found[[position[a] for a in known if a in position], column] += 1
    return found / found.norm(dim=-1, keepdim=True).clamp(min=1e-6).sqrt()


def of_meanings(meanings: Mapping[str, Sequence[str]], rows: Mapping[str, int], table: Tensor) -> Tensor:
    """The relatives of each name (names, 1000): the most over its meanings."""
    return torch.stack([table[[rows[s] for s in synsets]].amax(0) for synsets in meanings.values()])


def of_neighbours(config: WordsConfig, sentences: Tensor, known: Tensor, table: Tensor) -> Tensor:
    """Relatives (N, 1000) of texts that WordNet does not know, from the names whose sentences are nearest.

    Args:
        sentences: unit rows (N, 384) of the texts.
        known: unit rows (M, 384) of the names.
        table: relatives of the names (M, 1000).
    """
    parts = []
    for part in sentences.split(1024):
        near = (part @ known.T).topk(config.neighbours, dim=-1)
        share = (config.sharpness * near.values).softmax(-1)
        # the less alike the nearest name, the less it says
        parts.append((share[..., None] * table[near.indices]).sum(1) * near.values[:, :1].clamp(min=0))
    return torch.cat(parts)
