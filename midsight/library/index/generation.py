"""One generation of an index, opened for writing: which one a run works on, and when it becomes the current one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from midsight.errors import InputError
from midsight.files import StrPath
from midsight.library.index.filetable import FileTable
from midsight.library.index.lock import only_writer
from midsight.library.index.manifest import (
    FILES,
    MANIFEST,
    NAME,
    ROWS,
    About,
    Manifest,
    Settings,
    generations,
    make_folder,
    next_generation,
    read_about,
    read_manifest,
    remove_generation,
    write_about,
)
from midsight.library.stores import Store, open_store

if TYPE_CHECKING:
    from midsight.api import Perception


@dataclass
class Generation:
    """A generation with its store and its table of files.

    Attributes:
        manifest: of the index; it names another generation while this one is being built beside it.
        name: of the generation's folder.
        earlier_tags: what people gave files in the generation before, by id of the file.
    """

    manifest: Manifest
    name: str
    about: About
    store: Store
    table: FileTable
    earlier_tags: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def complete(self) -> None:
        """The run has come to its end: compacts, and makes this generation the one that is asked."""
        self.store.optimize()  # also where nothing has changed: an earlier run may have been stopped before it
        if self.name != self.manifest.generation:
            self.manifest = Manifest(self.manifest.folder, self.manifest.root, self.name)
            self.manifest.save()


@contextmanager
def open_for_writing(
    model: "Perception",
    root: Path,
    folder: StrPath | None,
    *,
    settings: Settings | None = None,
    store: str | None = None,
    load: About | None = None,
    reembed: bool = False,
) -> Iterator[Generation]:
    """The generation that a run with this model works on; as `Indexer`, and raises what it raises."""
    index = root / NAME if folder is None else Path(folder)
    _check_folder(index)
    make_folder(index)
    with only_writer(index):
        if not (index / MANIFEST).exists():
            about = About.of(model, settings or Settings(), load, store)
            write_about(index / "g0001", about)
            Manifest(index, root, "g0001").save()
        manifest = read_manifest(index)
        _check_root(manifest, root)
        now = read_about(manifest.current)
        wanted = About.of(model, settings or now.settings, load or now, now.store if store is None else store)
        name = _choose(manifest, now, wanted, reembed)
        for other in generations(index):
            # one that is being built by an unfinished re-embedding stays, unless another one takes its place
            if other < manifest.generation or (other not in (name, manifest.generation) and reembed):
                drop(index / other)
        about = read_about(index / name)
        table = FileTable(index / name / FILES, create=True)
        rows = open_store(address(index / name, about), about.dim, create=True)
        try:
            yield Generation(manifest, name, about, rows, table, _tags(manifest) if name != manifest.generation else {})
        finally:
            rows.close()
            table.close()


def address(generation: Path, about: About) -> str:
    """Where the rows of a generation are."""
    return os.fspath(generation / ROWS) if about.store is None else f"{about.store.rstrip('/')}-{generation.name}"


def drop(generation: Path) -> None:
    """Removes a generation, its rows in another place too."""
    if (generation / "about.json").exists():
        about = read_about(generation)
        if about.store is not None:
            open_store(address(generation, about), about.dim, create=True).drop()
    remove_generation(generation)


def is_same(now: About, wanted: About) -> bool:
    """Whether rows made with the one may lie beside rows made with the other."""
    return (now.identity, now.settings, now.store) == (wanted.identity, wanted.settings, wanted.store)


def _choose(manifest: Manifest, now: About, wanted: About, reembed: bool) -> str:
    """The generation to work on; begins one where that is needed and allowed."""
    if is_same(now, wanted):
        return manifest.generation
    if not reembed:
        raise InputError(_refusal(manifest, now, wanted))
    for name in generations(manifest.folder):
        if name != manifest.generation and _is_begun(manifest.folder / name, wanted):
            return name
    name = next_generation(manifest.folder)
    write_about(manifest.folder / name, wanted)
    return name


def _is_begun(generation: Path, wanted: About) -> bool:
    try:
        return is_same(read_about(generation), wanted)
    except InputError:
        return False


def _refusal(manifest: Manifest, now: About, wanted: About) -> str:
    if now.identity != wanted.identity:
        what = f"embeddings of {now.model} ({now.identity[:12]}), not of {wanted.model} ({wanted.identity[:12]})"
    elif now.settings != wanted.settings:
        what = f"rows made with {now.settings}, not with {wanted.settings}"
    else:
        what = f"its rows in {now.store or 'its own folder'}, not in {wanted.store or 'its own folder'}"
    return (
        f"{manifest.folder}: holds {what}; they are not mixed. To build the index anew beside this one and change over "
        "when it is whole, repeat the command with --reembed."
    )


def _check_folder(index: Path) -> None:
    """A folder that holds something else is not made an index."""
    if index.is_dir() and not (index / MANIFEST).exists() and any(p.name not in _OURS for p in index.iterdir()):
        raise InputError(f"{index}: holds other files and no index. Name a new or an empty folder.")


def _check_root(manifest: Manifest, root: Path) -> None:
    if manifest.root.resolve() != root.resolve():
        raise InputError(
            f"{manifest.folder}: is the index of {manifest.root}, not of {root}. Name that folder, or another index."
        )


def _tags(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    table = FileTable(manifest.current / FILES, create=True)
    try:
        return {record.id: record.tags for record in table.all() if record.tags}
    finally:
        table.close()


_OURS = {"lock", "g0001"}  # what a kill leaves of an index that was being made
