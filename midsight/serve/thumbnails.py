"""Small pictures of hits, made once: WebP files in a folder that does not grow beyond a limit.

They are made by the processes that decode uploads: a file that hangs or kills its decoder costs its own picture.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from midsight.errors import OutputError
from midsight.files import atomic_write
from midsight.images import Limits
from midsight.library.index import Hit
from midsight.serve.child import Shown, Unreadable
from midsight.serve.decoding import COMMAND, Decoders, Ended, small_picture
from midsight.serve.errors import ApiError
from midsight.serve.log import LOGGER

SIDE = 320  # pixels of the longer side
MOST_BYTES = 1 << 30  # about 100,000 pictures
SECONDS = 10.0  # for one picture, behind which its decoder is ended
FAILED = 1000  # files that ended their decoder and are remembered
AGAIN = 600.0  # seconds until such a file is tried again: the machine may only have been slow
KEPT = 0.8  # part of the limit that is left when it was reached; the oldest go


class Thumbnails:
    """Safe to use from several threads.

    Args:
        folder: where they are kept; made on first use. Where it cannot be written, nothing is kept.
        most_bytes: of all of them.
        seconds: for one picture.
        command: as `decoding.Decoders`.
    """

    def __init__(
        self,
        folder: Path,
        most_bytes: int = MOST_BYTES,
        seconds: float = SECONDS,
        command: Sequence[str] | None = COMMAND,
    ) -> None:
        self._folder, self._most = folder, most_bytes
        self._decoders = Decoders(None, Limits(), seconds, command)
        self._failed: OrderedDict[str, tuple[float, tuple[int, str, str]]] = OrderedDict()  # key -> when, answer
        self._bytes: int | None = None  # in the folder, once it was looked at
        self._lock = Lock()
        self._writes = True

    def get(self, hit: Hit) -> tuple[bytes, str]:
        """A WebP file, and a name that changes when the picture does.

        Raises:
            ApiError: 404, the file is gone, cannot be read any more or kills its decoder; 504, it takes too long; 503,
                there is no decoder.
        """
        try:
            state = hit.file.stat()
        except OSError:
            raise ApiError(404, f"{hit.path}: is gone", "file_gone") from None
        key = hashlib.sha256(f"{hit.id} {state.st_mtime_ns} {state.st_size} {SIDE}".encode()).hexdigest()[:32]
        kept = self._folder / key[:2] / f"{key}.webp"
        with suppress(OSError):
            return kept.read_bytes(), key
        when, failure = self._failed.get(key, (-AGAIN, (0, "", "")))
        if time.monotonic() - when < AGAIN:
            raise ApiError(*failure)
        try:
            data = small_picture(self._decoders, Shown(str(hit.file), hit.kind, hit.start, hit.page, SIDE))
        except Ended as error:
            status, code = (504, "timeout") if error.late else (404, "file_gone")
            failure = (status, f"{hit.path}: {error}", code)
            self._remember(key, failure)
            raise ApiError(*failure) from None
        except Unreadable:
            raise ApiError(404, f"{hit.path}: cannot be read any more", "file_gone") from None
        self._keep(kept, data)
        return data, key

    def close(self) -> None:
        """No more pictures; what is being made ends now."""
        self._decoders.close()

    def _remember(self, key: str, failure: tuple[int, str, str]) -> None:
        with self._lock:
            self._failed[key] = time.monotonic(), failure
            while len(self._failed) > FAILED:
                self._failed.popitem(last=False)

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
