"""WordNet's nouns from Debian's wordnet-base: names, definitions, and what is a kind of what.

File format: WordNet 3.0, wndb(5). A synset is written as ImageNet writes it: "n" and its eight-digit offset.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from midsight.errors import InputError


@dataclass(frozen=True)
class Synset:
    """One meaning: its names (spaces, original case), its definition, and the broader meanings above it."""

    id: str
    names: tuple[str, ...]
    gloss: str
    parents: tuple[str, ...]


class WordNet:
    """All noun synsets by id, and the meanings of each name, commonest first.

    Args:
        folder: holds `data.noun` and `index.noun`.

    Raises:
        InputError: the folder does not hold WordNet's files.
    """

    def __init__(self, folder: Path) -> None:
        try:
            data = (folder / "data.noun").read_text(encoding="utf-8").splitlines()
            index = (folder / "index.noun").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{folder} does not hold WordNet's data.noun and index.noun: {error}") from error
        self.synsets = {s.id: s for s in (_synset(line) for line in data if not line.startswith(" "))}
        self.senses = dict(_senses(line) for line in index if not line.startswith(" "))

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Narrower meanings right below each synset."""
        below: dict[str, list[str]] = {name: [] for name in self.synsets}
        for synset in self.synsets.values():
            for parent in synset.parents:
                below[parent].append(synset.id)
        return below

    def ancestors(self, synset: str) -> dict[str, int]:
        """Every broader meaning of a synset and itself, with its distance in steps (the shortest)."""
        found, ring, steps = {synset: 0}, [synset], 0
        while ring:
            steps += 1
            ring = [p for s in ring for p in self.synsets[s].parents if p not in found]
            found |= dict.fromkeys(ring, steps)
        return found

    def below(self, classes: Iterable[str]) -> dict[str, set[int]]:
        """For every meaning that covers at least one class: the positions of the classes it covers."""
        covered: dict[str, set[int]] = {}
        for position, synset in enumerate(classes):
            for ancestor in self.ancestors(synset):
                covered.setdefault(ancestor, set()).add(position)
        return covered

    def rank(self, name: str, synset: str) -> int:
        """Place of that meaning among the meanings of the name, 0 the commonest."""
        meanings = self.senses.get(name.lower().replace(" ", "_"), [])
        return meanings.index(synset) if synset in meanings else len(meanings)


def _synset(line: str) -> Synset:
    fields, _, gloss = line.partition(" | ")
    words = fields.split()
    count = int(words[3], 16)
    names = tuple(words[4 + 2 * i].replace("_", " ") for i in range(count))
    rest = words[4 + 2 * count :]
    pointers = [rest[1 + 4 * i : 5 + 4 * i] for i in range(int(rest[0]))]
    parents = tuple(f"n{offset}" for symbol, offset, part, _ in pointers if symbol in ("@", "@i") and part == "n")
    return Synset(f"n{words[0]}", names, gloss.split(";")[0].strip().strip('"'), parents)


def _senses(line: str) -> tuple[str, list[str]]:
    words = line.split()
    return words[0], [f"n{offset}" for offset in words[-int(words[2]) :]]
