"""What is below a folder: files that may be indexed, and what could not be looked at."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from midsight.errors import InputError
from midsight.images import IMAGE_SUFFIXES
from midsight.library.index.worker import Kind
from midsight.video import VIDEO_SUFFIXES

KIND_OF: dict[str, Kind] = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    ".pdf": "document",
}


@dataclass(frozen=True)
class Found:
    """A file as it is now.

    Attributes:
        name: path below the root, as the system has it.
        kind: by its ending.
        size, mtime_ns: 0 where they cannot be asked for.
        error: why it cannot even be asked for, or is no file to open.
    """

    name: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Scan:
    """What is below the root.

    Attributes:
        files: by name, sorted.
        closed: folders that could not be listed, by name, with the reason; nothing is known of what is in them.
    """

    files: dict[str, Found] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)

    def hides(self, name: str) -> bool:
        """Whether a file lies in a folder that could not be listed."""
        return any(not folder or name.startswith(folder + os.sep) for folder in self.closed)


def scan(root: Path) -> Scan:
    """Looks at everything below a folder; names that begin with a dot do not count, links to folders are not followed.

    Raises:
        InputError: not a folder, or one that cannot be listed.
    """
    try:
        os.listdir(root)
    except OSError as error:
        raise InputError(f"{root}: cannot be listed ({error.strerror or error}). Name a folder.") from None
    found = Scan()
    base = os.fspath(root)

    def closed(error: OSError) -> None:
        found.closed[os.path.relpath(error.filename, base)] = error.strerror or str(error)

    for place, folders, names in os.walk(base, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = "" if place == base else os.path.relpath(place, base)
        for name in _media(names):
            entry = _look(os.path.join(place, name), os.path.join(below, name))
            found.files[entry.name] = entry
    return found


def _media(names: list[str]) -> Iterator[str]:
    for name in sorted(names):
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in KIND_OF:
            yield name


def _look(path: str, name: str) -> Found:
    kind = KIND_OF[os.path.splitext(name)[1].lower()]
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return Found(name, kind, error=f"{path}: a link to nothing, or gone while the folder was read.")
    except OSError as error:  # a loop of links, no rights
        return Found(name, kind, error=f"{path}: cannot be read ({error.strerror or error}).")
    if not stat.S_ISREG(state.st_mode):
        return Found(name, kind, mtime_ns=state.st_mtime_ns, error=f"{path}: not a regular file.")
    return Found(name, kind, state.st_size, state.st_mtime_ns)
