"""Any data set by its path: shards, a folder, CSV, TSV or JSONL."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from midsight.data.folders import FolderPart
from midsight.data.samples import Part, Sample
from midsight.data.shards import ShardPart, shard_paths
from midsight.data.stream import Item, Order, Stream
from midsight.data.tables import TABLE_SUFFIXES, TablePart
from midsight.errors import InputError
from midsight.files import StrPath

R = TypeVar("R")
EVALUATION_MARK = "EVALUATION_ONLY"
"""A file of this name in a folder says that nothing may be trained on what lies there."""


@dataclass(frozen=True)
class Dataset:
    """Parts of one data set; `open_dataset` makes it."""

    path: Path
    parts: tuple[Part, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Another one for another content: names and sizes of shards and of a folder's files, the bytes of a table."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.name}\0{part.fingerprint()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def classes(self) -> bool:
        """Whether captions are names of classes: folders without texts, tables with a label and no caption."""
        return all(getattr(part, "names_classes", False) for part in self.parts)

    @property
    def empty_classes(self) -> list[str]:
        """Folders of classes in which there is nothing."""
        return [name for part in self.parts if isinstance(part, FolderPart) for name in part.empty_folders]

    def samples(self, order: Order | None = None, *, epochs: int | None = None, workers: int = 2) -> Stream[Sample]:
        """Samples that are read and not decoded."""
        return self.stream(Item.read, order, epochs=epochs, workers=workers)

    def stream(
        self,
        prepare: Callable[[Item], R],
        order: Order | None = None,
        *,
        epochs: int | None = None,
        workers: int = 2,
    ) -> Stream[R]:
        """What `prepare` makes of each entry, in background threads; see `Stream`."""
        return Stream(self.parts, self.fingerprint, prepare, order, workers=workers, epochs=epochs)


def open_dataset(
    path: StrPath,
    *,
    evaluation: bool = False,
    caption_fields: Sequence[str] | None = None,
    needs_captions: bool = True,
    labels: bool = False,
) -> Dataset:
    """A shard (.tar) or a folder of shards; a table (.csv, .tsv, .jsonl); or a folder of pictures and videos with a
    `.txt` beside each or one folder for each class.

    Args:
        path: of the data set.
        evaluation: also open what is marked as not to be trained on.
        caption_fields: columns or JSON fields to take the caption from, the first that is not empty; None takes the
            usual ones.
        needs_captions: a sample without one is left out, and counted; else its caption is "".
        labels: also read what the scene engine stored beside a picture in a shard.

    Raises:
        InputError: there is nothing, or nothing of these kinds; or it is marked, and `evaluation` is False.
    """
    found = Path(path)
    folder = found if found.is_dir() else found.parent
    if not evaluation and (folder / EVALUATION_MARK).exists():
        raise InputError(f"{found}: is for evaluation only ({folder / EVALUATION_MARK}) and not trained on.")
    fields = tuple(caption_fields or ())
    if found.is_dir():
        shards = shard_paths(found)
        parts: list[ShardPart | TablePart | FolderPart] = [_shard(shard, fields) for shard in shards]
        parts = parts or [FolderPart(found)]
    elif not found.is_file():
        raise InputError(f"{found}: no such file or folder. Expected shards (.tar), a table or a folder of pictures.")
    elif found.suffix.lower() == ".tar":
        parts = [_shard(found, fields)]
    elif found.suffix.lower() in TABLE_SUFFIXES:
        table = TablePart(found)
        parts = [replace(table, caption_fields=fields) if fields else table]
    else:
        raise InputError(f"{found}: ends like none of .tar, {', '.join(TABLE_SUFFIXES)}, and is no folder.")
    if not needs_captions:
        parts = [replace(part, needs_caption=False) for part in parts]
    if labels:
        parts = [replace(part, labels=True) if isinstance(part, ShardPart) else part for part in parts]
    return Dataset(found, tuple(parts))


def _shard(path: Path, fields: tuple[str, ...]) -> ShardPart:
    return ShardPart(path, fields) if fields else ShardPart(path)
