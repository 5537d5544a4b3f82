"""A folder of pictures and videos: with a text file beside each, or with one folder for each class."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from midsight.data.samples import (
    MAX_TEXT_BYTES,
    BadSample,
    Problem,
    Sample,
    caption_of,
    kind_of,
    plain_caption,
    text_of,
)  # fmt: skip

_NEITHER = "a .txt file of the same name beside it, or a folder named like its class"


@dataclass(frozen=True)
class FolderPart:
    """Everything below a folder, as one part: classes must be mixed as a whole.

    If any picture has a `.txt` of the same name beside it, all need one; otherwise the name of the folder that a
    picture lies in is its caption, with `_` read as a space. Hidden files are passed over, links to
    folders not followed.
    """

    root: Path
    needs_caption: bool = True

    @property
    def name(self) -> str:
        return "folder"

    def fingerprint(self) -> str:
        """Names and sizes of all media and captions."""
        digest = hashlib.sha256()
        for relative, size in self._files:
            digest.update(f"{relative}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def listing(self) -> Sequence[str | Problem]:
        """Relative paths, sorted."""
        names = [relative for relative, _ in self._files if kind_of(os.path.splitext(relative)[1])]
        return names or [Problem(str(self.root), "empty folder", "holds no picture and no video")]

    def read(self, entry: str | Problem) -> Sample:
        if isinstance(entry, Problem):
            raise entry.error()
        path = self.root / entry
        kind = kind_of(path.suffix)
        assert kind is not None  # that is how it came into the listing
        caption = self._written(path, entry) if self._has_texts else self._class(entry)
        return Sample(entry, path, caption_of(entry, caption, _NEITHER, self.needs_caption), kind)

    @property
    def names_classes(self) -> bool:
        """Whether captions are the names of folders."""
        return not self._has_texts

    @property
    def empty_folders(self) -> list[str]:
        """Folders right below the root in which no picture or video lies, at any depth."""
        used = {relative.partition("/")[0] for relative, _ in self._files if "/" in relative}
        folders = (path for path in sorted(self.root.iterdir()) if path.is_dir() and not path.name.startswith("."))
        return [path.name for path in folders if path.name not in used]

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        """Media and captions: path below the root with "/", and size in bytes."""
        return sorted(self._walk(self.root))

    @cached_property
    def _has_texts(self) -> bool:
        stems = {os.path.splitext(relative)[0] for relative, _ in self._files if relative.endswith(".txt")}
        return any(os.path.splitext(name)[0] in stems for name, _ in self._files if not name.endswith(".txt"))

    def _walk(self, folder: Path) -> Iterator[tuple[str, int]]:
        for here, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                suffix = os.path.splitext(name)[1]
                if name.startswith(".") or not (suffix == ".txt" or kind_of(suffix)):
                    continue
                path = os.path.join(here, name)
                size = os.stat(path).st_size if os.path.exists(path) else -1  # a dead link: found bad when it is read
                yield os.path.relpath(path, self.root).replace(os.sep, "/"), size

    def _written(self, path: Path, key: str) -> str:
        try:
            with open(path.with_suffix(".txt"), "rb") as file:
                data = file.read(MAX_TEXT_BYTES)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise BadSample("unreadable caption", f"{key}: its .txt cannot be read ({error.strerror}).") from error
        return plain_caption(text_of(key, data))

    @staticmethod
    def _class(relative: str) -> str:
        folders = relative.split("/")[:-1]
        return plain_caption(folders[-1].replace("_", " ")) if folders else ""
