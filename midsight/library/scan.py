"""Which media files a list of files and folders means."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from midsight.errors import InputError
from midsight.images import IMAGE_SUFFIXES
from midsight.video import VIDEO_SUFFIXES


def find_media(
    paths: Sequence[str | os.PathLike[str]],
    suffixes: Collection[str] = IMAGE_SUFFIXES | VIDEO_SUFFIXES,
    kinds: str = "pictures or videos",
) -> list[Path]:
    """Files as they are given, folders as the pictures and videos below them, each file once.

    A file that is named is kept whatever it is called, even where it does not exist: it then fails on its own when it
    is opened. Inside folders, names with known endings count; hidden files and folders do not, and links to folders
    are not followed.

    Args:
        suffixes, kinds: endings that count inside folders, in small letters, and what a message calls them.

    Returns:
        Paths in the order given, the files of a folder sorted by name.

    Raises:
        InputError: nothing was given, or a folder holds no media.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(_walk(path, suffixes))
            if not inside:
                raise InputError(f"{path}: no {kinds} in this folder. Name another folder, or the files.")
            found.update(dict.fromkeys(inside))
        else:
            found[path] = None
    if not found:
        raise InputError(f"no files were given; name {kinds}, or folders")
    return list(found)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that it is a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _walk(folder: Path, known: Collection[str]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in known:
                yield Path(place, name)
