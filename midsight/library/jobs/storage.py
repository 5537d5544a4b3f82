"""Local folders and object stores behind one small set of functions, by pyarrow and, for other schemes, fsspec.

A place is a path or a URL: `photos`, `s3://bucket/photos`, `gs://...`. The part of a URL behind "?" says how the store
is reached (`s3://bucket/photos?endpoint_override=http://minio:9000`) and is no part of a file's name.
"""

import os
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from midsight.errors import InputError, MediaError, MissingDependencyError, OutputError
from midsight.files import atomic_write
from midsight.images import DEFAULT_LIMITS
from midsight.video import VIDEO_SUFFIXES

T = TypeVar("T")

_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_WHOLE_AT_CLOSE = ("s3", "gs", "gcs", "abfs", "abfss", "az")  # an object appears when its last byte is there
TRIES, PAUSE = 4, 0.5  # of a request, and the seconds before the second one; each later pause is twice as long
_PIECE = 1 << 20


def is_url(place: str) -> bool:
    """Whether a place is a URL and not a path."""
    return bool(_URL.match(place))


def without_query(place: str) -> str:
    """A place as rows name it."""
    return place.partition("?")[0] if is_url(place) else place


def query_of(place: str) -> str:
    """How its store is reached: "?..." or nothing."""
    return "?" + place.partition("?")[2] if is_url(place) and "?" in place else ""


def below(place: str, name: str) -> str:
    """The place of a file in a folder."""
    if not is_url(place):
        return os.path.join(place, name)
    return without_query(place).rstrip("/") + "/" + name + query_of(place)


def open_place(place: str) -> tuple[Any, str]:
    """The file system of a place and the path in it.

    Raises:
        InputError: a scheme that nobody knows, or a store that cannot be reached that way.
        MissingDependencyError: a scheme whose package is not installed.
    """
    if not is_url(place):
        return _local(), os.path.abspath(place)
    parts = urlsplit(place.partition("?")[0])
    system = _system(parts.scheme.lower(), parts.netloc, query_of(place))
    return system, without_query(place).partition("://")[2]


@cache
def _local() -> Any:
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


@cache
def _system(scheme: str, host: str, query: str) -> Any:
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        return FileSystem.from_uri(f"{scheme}://{host}/{query}")[0]
    except (ValueError, OSError, NotImplementedError) as error:
        refused = error
    try:
        import fsspec

        return PyFileSystem(FSSpecHandler(fsspec.filesystem(scheme)))
    except ImportError as error:
        raise MissingDependencyError(f"{scheme}://{host}: {error}") from error
    except ValueError as error:
        raise InputError(f"{scheme}://{host}{query}: cannot be opened ({refused}; {error}).") from error


def read(place: str, name: str, limit: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """All bytes of a file; a store that does not answer is asked again.

    Args:
        name: what messages call it.

    Raises:
        MediaError: no such file, beyond `limit` bytes, or not to be read.
    """
    system, path = open_place(place)

    def once() -> bytes:
        with system.open_input_stream(path) as stream:
            data: bytes = stream.read(limit + 1)
        return data

    data = _patiently(once, name)
    if len(data) > limit:
        raise MediaError(f"{name}: larger than the limit of {limit} bytes. Raise Limits.max_bytes to read it.")
    return data


def download(place: str, name: str, target: Path) -> None:
    """Copies a file to the local disk, in pieces.

    Raises:
        MediaError: as `read`.
    """
    system, path = open_place(place)

    def once() -> None:
        with system.open_input_stream(path) as stream, open(target, "wb") as file:
            while piece := stream.read(_PIECE):
                file.write(piece)

    _patiently(once, name)


def _patiently(once: Callable[[], T], name: str) -> T:
    for attempt in range(TRIES):
        try:
            return once()
        except FileNotFoundError as error:
            raise MediaError(f"{name}: no such file.") from error
        except (PermissionError, IsADirectoryError) as error:
            raise MediaError(f"{name}: cannot be read ({error.strerror or error}).") from error
        except OSError as error:
            if attempt == TRIES - 1:
                raise MediaError(f"{name}: cannot be read, {TRIES} times ({error}).") from error
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("unreachable")


def write(place: str, fill: Callable[[Any], None]) -> None:
    """Writes a file that is there whole or not at all.

    Args:
        fill: writes into the binary file that it is given.

    Raises:
        OutputError: it could not be written; what was there before is intact.
    """
    if not is_url(place):
        with atomic_write(place) as file:
            fill(file)
        return
    system, path = open_place(place)
    at_once = not needs_folders(place)
    first = path if at_once else path.rpartition("/")[0] + "/." + path.rpartition("/")[2] + ".tmp"
    try:
        with system.open_output_stream(first) as file:
            fill(file)
        if not at_once:
            system.move(first, path)
    except OSError as error:
        raise OutputError(f"{without_query(place)}: could not be written ({error}).") from error


def needs_folders(place: str) -> bool:
    """Whether a folder has to be made before a file can be in it."""
    return not is_url(place) or place.partition("://")[0].lower() not in _WHOLE_AT_CLOSE


def is_video(place: str) -> bool:
    """Whether the file's name says that it is a video."""
    return os.path.splitext(without_query(place))[1].lower() in VIDEO_SUFFIXES
