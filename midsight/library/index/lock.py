"""One writer at a time for an index."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midsight.errors import OutputError
from midsight.library.index.manifest import LOCK


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the lock of an index; the system lets go of it when the process ends, however it does.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two writers are the user's affair
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise OutputError(
            f"{folder}: another process (number {holder}) is writing this index. Wait for it, or stop it."
        ) from None
    os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
