"""Which media files a list of files and folders means."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from midsight.errors import InputError
from midsight.images import IMAGE_SUFFIXES
from midsight.video import VIDEO_SUFFIXES


def find_media(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are given, folders as the pictures and videos below them, each file once.

    A file that is named is kept whatever it is called, even where it does not exist: it then fails on its own when it
    is opened. Inside folders, names with known endings count; hidden files and folders do not, and links to folders
    are not followed.

    Returns:
        Paths in the order given, the files of a folder sorted by name.

    Raises:
        InputError: nothing was given, or a folder holds no media.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(_walk(path))
            if not inside:
                raise InputError(f"{path}: no pictures or videos in this folder. Name another folder, or the files.")
            found.update(dict.fromkeys(inside))
        else:
            found[path] = None
    if not found:
        raise InputError("no files were given; name pictures, videos or folders")
    return list(found)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that it is a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _walk(folder: Path) -> Iterator[Path]:
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in known:
                yield Path(place, name)
