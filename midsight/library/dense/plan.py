"""What a job works on, and under which name each result is kept."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from midsight.errors import InputError
from midsight.images import IMAGE_SUFFIXES
from midsight.library.scan import find_media, is_video
from midsight.video import VIDEO_SUFFIXES, is_camera

Kind = Literal["picture", "video", "camera"]
_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\/:*?"<>|\ud800-\udfff]')  # not in names of Windows, or no text at all
_LONGEST = 200  # bytes of a part of a name; file systems take 255, with what is put behind it


@dataclass(frozen=True)
class Item:
    """One input."""

    source: str  # a path, or camera:...
    kind: Kind
    key: str  # of the journal: the absolute path
    name: str  # of its results, relative, with "/", without an ending
    file_name: str  # for lists of pictures: relative to the input folder
    size: int = -1  # bytes; -1 where there is no such file
    mtime_ns: int = -1

    @property
    def stamp(self) -> list[int]:
        """Tells whether the file has changed."""
        return [self.size, self.mtime_ns]


def plan(
    inputs: Sequence[str], out: Path, known: Mapping[str, Mapping[str, Any]], folders: Sequence[str] = ()
) -> list[Item]:
    """The inputs in their order, each once, and names for their results that no two of them share.

    Names mirror the tree below each input folder. Where two would meet (a.jpg beside a.png, the same name in two
    folders), the later one gets its ending or its folder's name added. A name that an earlier run gave stays.

    Args:
        inputs: files, folders, cameras.
        out: where results go; what lies in it is no input.
        known: records of the journal by key, with name and file_name.
        folders: those below `out` that results are written to.

    Raises:
        InputError: nothing was given, a folder without media, `out` is itself an input, or an input is a result.
    """
    names = _Names(known)
    items: dict[str, Item] = {}
    for source, root in _sources(inputs, out):
        if is_camera(source):
            item = _camera(source, names)
        else:
            _check(source, out, folders)
            item = _file(Path(source), root, names, known)
        items.setdefault(item.key, item)
    if not items:
        raise InputError("no files were given; name pictures, videos, folders or a camera")
    return list(items.values())


def _sources(inputs: Sequence[str], out: Path) -> Iterator[tuple[str, Path | None]]:
    """(file or camera, the input folder that it was found in)."""
    for given in inputs:
        path = Path(given)
        if is_camera(given) or not path.is_dir():
            yield given, None
            continue
        inside = path.resolve() in out.resolve().parents
        if path.resolve() == out.resolve():
            raise InputError(f"{out}: is one of the inputs. Name another folder for the results, such as {out}/found.")
        for file in find_media([path]):
            if not (inside and file.resolve().is_relative_to(out.resolve())):
                yield str(file), path


def _check(source: str, out: Path, folders: Sequence[str]) -> None:
    path = Path(source).resolve()
    if any(path.is_relative_to((out / folder).resolve()) for folder in folders):
        raise InputError(f"{source}: lies where results are written to. Name another folder with --out.")


def _file(path: Path, root: Path | None, names: "_Names", known: Mapping[str, Mapping[str, Any]]) -> Item:
    key = text_of(os.path.abspath(path))
    try:
        state = path.stat()
        size, changed = state.st_size, state.st_mtime_ns
    except (OSError, ValueError):
        size = changed = -1
    kind: Kind = "video" if is_video(path) else "picture"
    if key in known:
        name, file_name = str(known[key]["name"]), str(known[key]["file_name"])
    else:
        relative = path.relative_to(root) if root is not None else Path(path.name)
        name, file_name = names.choose(relative, Path(os.path.abspath(root or path.parent)).name, key, kind)
    return Item(str(path), kind, key, name, file_name, size, changed)


def _camera(source: str, names: "_Names") -> Item:
    """Every recording has a name of its own: an earlier one must not be lost."""
    moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    device = _clean(source.removeprefix("camera:"))[:24]
    name, _ = names.choose(Path(f"camera_{device}_{moment}.mp4"), "camera", "camera", "camera")
    return Item(source, "camera", f"{source} {name}", name, name)


class _Names:
    """The names that are taken; upper and lower case count as one, as on many disks."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._holders: dict[str, str] = {}  # name -> key of the input that has it
        self._videos: set[str] = set()  # names that may be folders of frames
        self._above: set[str] = set()  # folders that names lie in
        self._files: set[str] = set()
        for key, record in known.items():
            self._take(str(record["name"]), key, str(record["kind"]))
            self._files.add(str(record["file_name"]))

    def choose(self, relative: Path, folder: str, key: str, kind: Kind) -> tuple[str, str]:
        """A free name, and the file's name for lists."""
        above = [_no_file(_clean(part)) for part in relative.parts[:-1]]
        stem, ending = os.path.splitext(_clean(relative.name))
        plain = str(PurePosixPath(*above, stem))
        with_ending = f"{plain}_{ending[1:].lower()}"
        in_folder = f"{_no_file(_clean(folder))}/{plain}"
        holder = self._holders.get(plain.casefold())
        beside = holder is not None and os.path.dirname(holder) == os.path.dirname(key)
        wanted = [plain, *([with_ending, in_folder] if beside else [in_folder, with_ending])]
        wanted += (f"{plain}_{number}" for number in range(2, len(self._holders) + 3))
        name = next(name for name in wanted if self._is_free(name.casefold(), kind))
        self._take(name, key, kind)
        listed = text_of(relative.as_posix())
        file_name = key if listed in self._files else listed
        self._files.add(file_name)
        return name, file_name

    def _is_free(self, name: str, kind: Kind) -> bool:
        if name in self._holders or (kind != "picture" and name in self._above):
            return False
        return not any(str(parent) in self._videos for parent in PurePosixPath(name).parents)

    def _take(self, name: str, key: str, kind: str) -> None:
        name = name.casefold()
        self._holders[name] = key
        self._above.update(str(parent) for parent in PurePosixPath(name).parents)
        if kind != "picture":
            self._videos.add(name)


def _clean(part: str) -> str:
    """A part of a path that every file system takes, and that leads nowhere else."""
    part = _UNSAFE.sub("_", part).encode()[:_LONGEST].decode(errors="ignore")
    return "_" if part in ("", ".", "..") else part


def _no_file(part: str) -> str:
    """A folder's name that no file with results can have: clip.mp4 becomes clip_mp4."""
    stem, ending = os.path.splitext(part)
    return f"{stem}_{ending[1:]}" if ending.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".jsonl", ".txt"} else part


def text_of(path: str) -> str:
    """A path as text that every format can hold: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
