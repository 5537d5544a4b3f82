"""Files inside Qt resource collections (`.rcc`), in which some programs ship their pictures.

Format: Qt's own, versions 1 to 3 (QResource): a tree of names, each leaf pointing to a length and that many bytes,
plain or deflated.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from midsight.errors import InputError

_DIRECTORY, _DEFLATED, _ZSTD = 2, 1, 4
_MOST = 64 << 20  # bytes of one inflated file


def resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names (with folders, "/" between) and contents of all files in a collection.

    Raises:
        InputError: not such a file, cut, packed in a way that is not read here, or with names that are no file's.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if data[:4] != b"qres" or len(data) < 20:
        raise InputError(f"{path}: not a Qt resource collection (expected it to begin with 'qres')")
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    if not 1 <= version <= 3:
        raise InputError(f"{path}: version {version} of Qt's resource format, expected 1 to 3")
    try:
        yield from _Reader(data, tree, contents, names, 14 if version == 1 else 22).below(0, "")
    except (struct.error, zlib.error, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cut or broken resource collection ({error})") from error


class _Reader:
    """Walks the tree; ValueError says what is wrong with it."""

    def __init__(self, data: bytes, tree: int, contents: int, names: int, size: int) -> None:
        self.data, self.tree, self.contents, self.names, self.size = data, tree, contents, names, size
        self.seen: set[int] = set()  # a node lies in one folder, so a tree cannot come back to it

    def below(self, node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        if node in self.seen:
            raise ValueError("a file or folder lies in two folders")
        self.seen.add(node)
        at = self.tree + node * self.size
        name, flags = struct.unpack_from(">IH", self.data, at)
        path = prefix + self._name(name) if node else ""
        if not flags & _DIRECTORY:
            yield path, self._content(struct.unpack_from(">4xI", self.data, at + 6)[0], flags)
            return
        count, first = struct.unpack_from(">II", self.data, at + 6)
        for child in range(first, first + count):
            yield from self.below(child, f"{path}/" if path else "")

    def _name(self, offset: int) -> str:
        (length,) = struct.unpack_from(">H", self.data, self.names + offset)
        name = self._bytes(self.names + offset + 6, 2 * length).decode("utf-16-be")  # behind the length and a hash
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"{name!r} is no name of a file")
        return name

    def _content(self, offset: int, flags: int) -> bytes:
        start = self.contents + offset
        (length,) = struct.unpack_from(">I", self.data, start)
        raw = self._bytes(start + 4, length)
        if flags & _ZSTD:
            raise ValueError("a file packed with zstd, which is not read here")
        if not flags & _DEFLATED:
            return raw
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(raw[4:], _MOST)  # behind the length that it has then
        if not inflater.eof:
            raise ValueError(f"a deflated file that is cut, or larger than {_MOST} bytes")
        return inflated

    def _bytes(self, start: int, length: int) -> bytes:
        found = self.data[start : start + length]
        if len(found) < length:
            raise ValueError(f"{length} bytes at {start}, beyond the end of the file")
        return found
