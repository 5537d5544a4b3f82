"""A part of a data set that is measured and never trained: chosen by content, so the same pictures in every run.

Whatever the order, the names or the machine, the samples with the smallest hashes of their bytes are held out. Copies
of one picture stay on one side, also where a large data set is not read whole.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midsight.data.datasets import Dataset
from midsight.data.samples import BadSample, Kind, Part, Sample
from midsight.data.stream import Item, Order
from midsight.errors import InputError
from midsight.files import content_hash

LOOKED_AT = 20_000  # samples that are read for a split; of a larger data set, so many that are evenly spread


@dataclass(frozen=True)
class _Share:
    """Some of a part: what both sides of a split have in common."""

    part: Part

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def names_classes(self) -> bool:
        return getattr(self.part, "names_classes", False)

    def fingerprint(self) -> str:
        return self.part.fingerprint()


@dataclass(frozen=True)
class Only(_Share):
    """Some entries of a part."""

    entries: tuple[Any, ...]

    def listing(self) -> Sequence[Any]:
        return self.entries

    def read(self, entry: Any) -> Sample:
        return self.part.read(entry)


@dataclass(frozen=True)
class Without(_Share):
    """A part without what is held out.

    Args:
        entries: that are not listed.
        hashes: of held-out content; a copy among the other entries is left out when it is read.
    """

    entries: frozenset[Any]
    hashes: frozenset[str]

    def listing(self) -> Sequence[Any]:
        listed = self.part.listing()
        return [entry for entry in listed if entry not in self.entries] if self.entries else listed

    def read(self, entry: Any) -> Sample:
        sample = self.part.read(entry)
        if content_of(sample) in self.hashes:
            raise BadSample("copy of a held-out sample", f"{sample.key}: has the content of a held-out sample.")
        return sample


@dataclass(frozen=True)
class Split:
    """A data set in two, and what was seen on the way."""

    train: Dataset
    held_out: Dataset | None  # None: nothing is held out
    samples: int  # to train on; what cannot be decoded is among them
    captions: tuple[str, ...]  # of the samples that were read, each once, sorted
    alone: tuple[str, ...]  # names of classes with too few pictures to hold one out


@dataclass(frozen=True)
class _Found:
    """One sample that was read."""

    part: str
    entry: Any
    caption: str
    content: str


def split(dataset: Dataset, share: float, kind: Kind = "image") -> Split:
    """Holds out a share of the samples: of each class where captions are names of classes, else of all.

    A class gives at least one picture, and keeps at least one; a class with a single picture gives none.

    Args:
        share: 0 holds out nothing.
        kind: what is trained on; samples of the other kind are on no side.

    Raises:
        InputError: fewer than two classes, or a folder of a class without a picture.
        UnusableError: no sample that can be used; the message says why.
    """
    total = sum(len(part.listing()) for part in dataset.parts)
    found = _look(dataset, kind, -(-total // LOOKED_AT))
    captions = tuple(sorted({sample.caption for sample in found}))
    if dataset.classes:
        _check_classes(dataset, captions)
    groups: dict[str, dict[str, list[_Found]]] = defaultdict(lambda: defaultdict(list))
    for sample in found:
        groups[sample.caption if dataset.classes else ""][sample.content].append(sample)
    held = [sample for group in groups.values() for sample in _smallest(group, share)]
    alone = tuple(sorted(name for name, group in groups.items() if len(group) < 2)) if dataset.classes else ()
    samples = (len(found) if total <= LOOKED_AT else total) - len(held)
    train, held_out = _divide(dataset, held)
    return Split(train, held_out, samples, captions, alone if share else ())


def content_of(sample: Sample) -> str:
    """A hash of a sample's bytes.

    Raises:
        BadSample: they cannot be read.
    """
    if isinstance(sample.media, bytes):
        return hashlib.sha256(sample.media).hexdigest()
    try:
        return content_hash(sample.media)
    except InputError as error:
        raise BadSample(f"unreadable {_WORDS[sample.kind]}", f"{sample.key}: {error}") from error


_WORDS: Mapping[Kind, str] = {"image": "picture", "video": "video"}


def _look(dataset: Dataset, kind: Kind, every: int) -> list[_Found]:
    parts = [Only(part, tuple(part.listing()[::every])) for part in dataset.parts]

    def prepare(item: Item) -> _Found:
        sample = item.read()
        if sample.kind != kind:
            raise BadSample(f"a {_WORDS[sample.kind]} among {_WORDS[kind]}s", f"{sample.key}: is a {sample.kind}.")
        return _Found(item.part.name, item.entry, sample.caption, content_of(sample))

    return list(Dataset(dataset.path, tuple(parts)).stream(prepare, Order(shuffle=False), epochs=1))


def _smallest(group: Mapping[str, list[_Found]], share: float) -> Iterable[_Found]:
    """The samples of a group that are held out: those of the smallest hashes."""
    return [sample for content in held_contents(group, share) for sample in group[content]]


def held_contents(contents: Iterable[str], share: float) -> list[str]:
    """Which of some hashes of content are held out: the smallest, a share of all, at least one and never all.

    Args:
        contents: hashes; copies count once. Of a single one, or with a share of 0, none is held out.
    """
    distinct = sorted(set(contents))
    if not share or len(distinct) < 2:
        return []
    return distinct[: min(max(1, round(share * len(distinct))), len(distinct) - 1)]


def _divide(dataset: Dataset, held: Sequence[_Found]) -> tuple[Dataset, Dataset | None]:
    if not held:
        return dataset, None
    entries: dict[str, list[Any]] = defaultdict(list)
    for sample in held:
        entries[sample.part].append(sample.entry)
    hashes = frozenset(sample.content for sample in held)
    train = tuple(Without(part, frozenset(entries.get(part.name, ())), hashes) for part in dataset.parts)
    kept = tuple(Only(part, tuple(entries[part.name])) for part in dataset.parts if part.name in entries)
    return Dataset(dataset.path, train), Dataset(dataset.path, kept)


def _check_classes(dataset: Dataset, names: Sequence[str]) -> None:
    empty = dataset.empty_classes
    if empty:
        raise InputError(
            f"{dataset.path}: {', '.join(empty[:5])} holds no picture that can be used; put some there, or delete the "
            "folder"
        )
    if len(names) < 2:
        found = f"one class, {names[0]!r}" if names else "no class"
        raise InputError(
            f"{dataset.path}: holds {found}; expected a folder with at least two, one folder of pictures for each, "
            "or pairs with captions"
        )
