"""Small pictures of hits, made once: WebP files in a folder that does not grow beyond a limit."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from midsight.errors import MidsightError, OutputError
from midsight.files import atomic_write
from midsight.library.index import Hit
from midsight.library.index.preview import thumbnail
from midsight.serve.errors import ApiError
from midsight.serve.log import LOGGER
from midsight.video import MediaWarning

SIDE = 320  # pixels of the longer side
MOST_BYTES = 1 << 30  # about 100,000 pictures
KEPT = 0.8  # part of the limit that is left when it was reached; the oldest go


class Thumbnails:
    """Safe to use from several threads.

    Args:
        folder: where they are kept; made on first use. Where it cannot be written, nothing is kept.
        most_bytes: of all of them.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most = folder, most_bytes
        self._bytes: int | None = None  # in the folder, once it was looked at
        self._lock = Lock()
        self._writes = True

    def get(self, hit: Hit) -> tuple[bytes, str]:
        """A WebP file, and a name that changes when the picture does.

        Raises:
            ApiError: 404, the file is gone or cannot be read any more.
        """
        try:
            state = hit.file.stat()
        except OSError:
            raise ApiError(404, f"{hit.path}: is gone", "file_gone") from None
        key = hashlib.sha256(f"{hit.id} {state.st_mtime_ns} {state.st_size} {SIDE}".encode()).hexdigest()[:32]
        kept = self._folder / key[:2] / f"{key}.webp"
        with suppress(OSError):
            return kept.read_bytes(), key
        try:
            data = thumbnail(hit.file, hit.kind, hit.start, hit.page, SIDE, "WEBP")
        except (MidsightError, MediaWarning):
            raise ApiError(404, f"{hit.path}: cannot be read any more", "file_gone") from None
        self._keep(kept, data)
        return data, key

    def _keep(self, path: Path, data: bytes) -> None:
        if not self._writes:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        except (OSError, OutputError) as error:
            self._writes = False
            LOGGER.warning("thumbnails are not kept: %s", error)
            return
        with self._lock:
            self._bytes = _size(self._folder) if self._bytes is None else self._bytes + len(data)
            if self._bytes > self._most:
                self._bytes = _shrink(self._folder, int(self._most * KEPT))


def _files(folder: Path) -> list[os.stat_result]:
    return [path.stat() for path in folder.glob("*/*.webp")]


def _size(folder: Path) -> int:
    return sum(state.st_size for state in _files(folder))


def _shrink(folder: Path, most: int) -> int:
    """Removes the oldest files; returns the bytes that are left."""
    files = sorted(((path.stat(), path) for path in folder.glob("*/*.webp")), key=lambda entry: entry[0].st_mtime)
    left = sum(state.st_size for state, _ in files)
    for state, path in files:
        if left <= most:
            break
        with suppress(OSError):
            path.unlink()
            left -= state.st_size
    return left
