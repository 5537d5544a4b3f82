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
_DEEPEST = 32  # folders in folders


def resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names (with folders, "/" between) and contents of all files in a collection.

    Raises:
        InputError: not such a file, cut, or packed in a way that is not read here.
    """
    data = path.read_bytes()
    if data[:4] != b"qres" or len(data) < 20:
        raise InputError(f"{path}: not a Qt resource collection (expected it to begin with 'qres')")
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    if not 1 <= version <= 3:
        raise InputError(f"{path}: version {version} of Qt's resource format, expected 1 to 3")
    try:
        yield from _Reader(data, tree, contents, names, 14 if version == 1 else 22).below(0, "", 0)
    except (struct.error, zlib.error, UnicodeDecodeError, IndexError) as error:
        raise InputError(f"{path}: cut or broken resource collection ({error})") from error


class _Reader:
    def __init__(self, data: bytes, tree: int, contents: int, names: int, size: int) -> None:
        self.data, self.tree, self.contents, self.names, self.size = data, tree, contents, names, size

    def below(self, node: int, prefix: str, depth: int) -> Iterator[tuple[str, bytes]]:
        at = self.tree + node * self.size
        name, flags = struct.unpack_from(">IH", self.data, at)
        path = prefix + self._name(name) if node else ""
        if not flags & _DIRECTORY:
            yield path, self._content(struct.unpack_from(">4xI", self.data, at + 6)[0], flags)
            return
        count, first = struct.unpack_from(">II", self.data, at + 6)
        if depth > _DEEPEST or first <= node:
            raise IndexError("folders that hold themselves")
        for child in range(first, first + count):
            yield from self.below(child, f"{path}/" if path else "", depth + 1)

    def _name(self, offset: int) -> str:
        (length,) = struct.unpack_from(">H", self.data, self.names + offset)
        start = self.names + offset + 6  # behind the length and a hash
        return self.data[start : start + 2 * length].decode("utf-16-be")

    def _content(self, offset: int, flags: int) -> bytes:
        start = self.contents + offset
        (length,) = struct.unpack_from(">I", self.data, start)
        raw = self.data[start + 4 : start + 4 + length]
        if flags & _ZSTD:
            raise IndexError("a file packed with zstd")
        if not flags & _DEFLATED:
            return raw
        return zlib.decompressobj().decompress(raw[4:], _MOST)
