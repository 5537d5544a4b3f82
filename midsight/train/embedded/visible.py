"""The names that `midsight ask` gives what it sees: `python -m midsight.train.embedded.visible FILE`.

ImageNet's classes, which the trunk knows; broader meanings above two of them or more; and other things of ImageNet's
22k that English has a common word for. One name a meaning: the one that WordNet's texts have most often, or else the
one of the fewest tokens of SmolLM2. People are left out, for the model does not know them.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from midsight.data.packages import fetch
from midsight.data.wordnet import WordNet
from midsight.errors import InputError, MidsightError
from midsight.files import atomic_write
from midsight.plm.packaged import smollm2_folder
from midsight.plm.tokenizer import JsonTokenizer
from midsight.train.embedded.vocabulary import TOO_WIDE, imagenet_synsets, visible_synsets

# above nearly everything, like those that the text tower leaves out, or said of nearly everything
SAY_LITTLE = frozenset(TOO_WIDE) | {
    "device", "implement", "equipment", "natural object", "solid", "substance", "material", "product", "creation",
    "way", "structure", "construction", "article", "ware", "part", "piece", "component", "appendage", "organ",
    "plant part",
}  # fmt: skip
_WORD = re.compile(r"[a-z][a-z' -]{2,}")
_OFTEN = 3  # times in WordNet's texts that make a name the usual one
_PERSON = "n00007846"
_NOUN = "1"  # of a sense key


def main() -> int:
    """Writes the file; the exit code is 1 where a package cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m midsight.train.embedded.visible", description=__doc__)
    parser.add_argument(
        "file", type=Path, help="text file to write: a line for each name, behind a tab what else it is"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="where data packages are kept")
    options = parser.parse_args()
    try:
        names = visible_names(fetch("wordnet-base", options.work / "data") / "usr/share/wordnet")
        with atomic_write(options.file) as file:
            file.write("".join(f"{name}\t{'|'.join(broader)}\n" for name, broader in names.items()).encode())
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{options.file}: {len(names)} names\n")
    return 0


def visible_names(folder: Path) -> dict[str, list[str]]:
    """The names in alphabetical order, each with what else it is: its synonyms and broader names, the nearest first.

    Args:
        folder: WordNet's.

    Raises:
        InputError: the folder does not hold WordNet's files.
        MissingDependencyError: timm, or the language model's package, is not installed.
    """
    wordnet, spoken = WordNet(folder), _Spoken(folder)
    classes = imagenet_synsets()
    above = [synset for synset, covered in wordnet.below(classes).items() if len(covered) >= 2]
    above = [synset for synset in above if spoken.is_plain(wordnet, synset) or spoken.is_said(wordnet, synset)]
    above = [synset for synset in above if _PERSON not in wordnet.ancestors(synset)]
    things = [s for s in visible_synsets() if s in wordnet.synsets and _PERSON not in wordnet.ancestors(s)]
    things = [s for s in things if spoken.is_plain(wordnet, s) and spoken.is_noun(spoken.usual(wordnet, s))]
    found: dict[str, dict[str, None]] = {}
    for synset in dict.fromkeys((*classes, *above, *things)):
        name = spoken.usual(wordnet, synset)
        if name not in SAY_LITTLE and _WORD.fullmatch(name):
            kinds = sorted(wordnet.ancestors(synset).items(), key=lambda item: item[1])
            broader = [own.lower() for kind, _ in kinds for own in wordnet.synsets[kind].names]
            found.setdefault(name, {}).update(dict.fromkeys(broader))
    return {name: [b for b in found[name] if b != name and b not in TOO_WIDE] for name in sorted(found)}


class _Spoken:
    """How common words are: how often they stand in the texts that WordNet counts, and their tokens."""

    def __init__(self, folder: Path) -> None:
        try:
            lines = (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{folder} does not hold WordNet's cntlist.rev: {error}") from error
        self._nouns, self._others = _counts(lines)
        self._tokenizer = JsonTokenizer(smollm2_folder() / "tokenizer.json")

    def usual(self, wordnet: WordNet, synset: str) -> str:
        """What people call a meaning, in small letters."""
        own = wordnet.synsets[synset].names
        names = [name.lower() for name in own if wordnet.rank(name, synset) < 3] or [own[0].lower()]
        return min(names, key=lambda name: (-min(self._nouns[name], _OFTEN), self._tokens(name)))

    def is_plain(self, wordnet: WordNet, synset: str) -> bool:
        """Whether a name of it is one token, and it is the first meaning of that name."""
        names = wordnet.synsets[synset].names
        return any(wordnet.rank(name, synset) == 0 and self._tokens(name.lower()) == 1 for name in names)

    def is_said(self, wordnet: WordNet, synset: str) -> bool:
        return self._nouns[self.usual(wordnet, synset)] > 0

    def is_noun(self, name: str) -> bool:
        """Whether it is not more often a verb or an adjective."""
        return self._nouns[name] >= self._others[name]

    def _tokens(self, name: str) -> int:
        return len(self._tokenizer.encode(f" {name}"))


def _counts(lines: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each word is a noun, and how often another part of speech. File format: WordNet 3.0, cntlist(5)."""
    nouns: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for line in lines:
        key, _, count = line.split()
        word, _, sense = key.partition("%")
        (nouns if sense.startswith(_NOUN) else others)[word.replace("_", " ")] += int(count)
    return nouns, others


if __name__ == "__main__":
    sys.exit(main())
