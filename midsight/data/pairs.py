"""Pictures with a picture of numbers beside each: found by name, checked before anything is opened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midsight.errors import InputError
from midsight.files import StrPath
from midsight.images import IMAGE_SUFFIXES

_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Pair:
    """A picture and what is known of each of its pixels."""

    key: str  # names it within the set
    image: Path
    target: Path  # labels or depth


def folder_pairs(images: StrPath, targets: StrPath, suffix: str = ".png") -> list[Pair]:
    """All pictures below one folder with the file of the same relative name below another.

    Args:
        images: folder of pictures, at any depth.
        targets: folder of pictures of numbers, ending in `suffix`.

    Returns:
        Pairs, sorted by name.

    Raises:
        InputError: a folder that is not there or empty, two pictures of one name, or files without a
            partner.
    """
    pictures, numbers = _by_key(Path(images), IMAGE_SUFFIXES), _by_key(Path(targets), frozenset((suffix,)))
    for folder, found in ((images, pictures), (targets, numbers)):
        if not found:
            raise InputError(f"{folder}: no such folder, or no pictures in it; expected pairs of pictures and targets")
    _no_lonely(pictures, numbers, f"{targets}: no {suffix} for", "Add them, or take the pictures away.")
    _no_lonely(numbers, pictures, f"{images}: no picture for", "Add them, or take the targets away.")
    return [Pair(key, pictures[key], numbers[key]) for key in sorted(pictures)]


def _no_lonely(these: dict[str, Path], those: dict[str, Path], message: str, advice: str) -> None:
    lonely = sorted(these.keys() - those.keys())
    if lonely:
        more = f" and {len(lonely) - _SHOWN} more" if len(lonely) > _SHOWN else ""
        raise InputError(f"{message} {', '.join(lonely[:_SHOWN])}{more}. {advice}")


def _walk(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(here, name)


def _by_key(root: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files by their path below the root, without the ending."""
    found: dict[str, Path] = {}
    for path in _walk(root, suffixes):
        key = os.path.splitext(path.relative_to(root).as_posix())[0]
        if key in found:
            raise InputError(f"{path}: has the same name as {found[key].name}, so a partner would be anyone's guess")
        found[key] = path
    return found
