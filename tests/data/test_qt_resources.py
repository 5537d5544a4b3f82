"""Qt resource collections, built here by the format's description; broken and hostile ones are told."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from midsight.data import packaged
from midsight.data.qt_resources import resources
from midsight.errors import InputError

FILES: dict[str, Any] = {
    "a.webp": b"one",
    "birds": {"owl.webp": bytes(range(256)) * 40, "empty.txt": b""},
    "ünï.png": b"x",
}
FLAT = {"a.webp": b"one", "birds/owl.webp": FILES["birds"]["owl.webp"], "birds/empty.txt": b"", "ünï.png": b"x"}
DIRECTORY, DEFLATED, ZSTD = 2, 1, 4


@dataclass
class Collection:
    """The three parts of a collection while it is put together; each node is (name, flags, two numbers)."""

    tree: list[tuple[int, int, int, int]] = field(default_factory=list)
    contents: bytes = b""
    names: bytes = b""

    def name(self, name: str) -> int:
        at, encoded = len(self.names), name.encode("utf-16-be")
        self.names += struct.pack(">HI", len(encoded) // 2, 0) + encoded  # the hash is for Qt's own look-up
        return at

    def content(self, data: bytes, flags: int) -> int:
        at = len(self.contents)
        data = struct.pack(">I", len(data)) + zlib.compress(data) if flags & DEFLATED else data
        self.contents += struct.pack(">I", len(data)) + data
        return at

    def add(self, files: dict[str, Any], at: int, flags: int) -> None:
        """Children lie one behind the other; folders are filled behind all of them."""
        count, first = len(files), len(self.tree)
        self.tree[at] = (*self.tree[at][:1], DIRECTORY, count, first)
        for name, data in files.items():
            place = 0 if isinstance(data, dict) else self.content(data, flags)
            self.tree.append((self.name(name), DIRECTORY if isinstance(data, dict) else flags, 0, place))
        for node, data in enumerate(files.values(), first):
            if isinstance(data, dict):
                self.add(data, node, flags)

    def pack(self, version: int) -> bytes:
        tree = b"".join(
            struct.pack(">IH", name, flags)
            + (struct.pack(">II", one, two) if flags & DIRECTORY else struct.pack(">HHI", 0, 0, two))
            + (b"" if version == 1 else bytes(8))  # when it was changed
            for name, flags, one, two in self.tree
        )
        head = 20 if version < 3 else 24
        places = (head, head + len(tree), head + len(tree) + len(self.contents))
        return b"qres" + struct.pack(">4I", version, *places) + bytes(head - 20) + tree + self.contents + self.names


def collection(files: dict[str, Any] = FILES, flags: int = 0) -> Collection:
    made = Collection([(0, DIRECTORY, 0, 0)])
    made.add(files, 0, flags)
    return made


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("flags", [0, DEFLATED])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_every_version(version: int, flags: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.rcc", collection(flags=flags).pack(version))
    assert dict(resources(path)) == FLAT
    assert flags == 0 or path.stat().st_size < len(FILES["birds"]["owl.webp"])


def test_an_empty_collection(tmp_path: Path) -> None:
    assert list(resources(write(tmp_path / "a.rcc", collection({}).pack(2)))) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a Qt resource collection"),
        (b"qres\0\0\0\1", "not a Qt resource collection"),
        (b"PK\3\4" + bytes(40), "expected it to begin with 'qres'"),
        (collection().pack(4), "version 4 of Qt's resource format, expected 1 to 3"),
        (b"qres" + struct.pack(">4I", 2, 1 << 31, 1 << 31, 1 << 31), "cut or broken"),
        (collection(flags=ZSTD).pack(3), "zstd"),
    ],
)
def test_foreign_files_are_told(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.rcc: .*{message}"):
        list(resources(write(tmp_path / "a.rcc", data)))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.rcc: cannot be read \(No such file"):
        list(resources(tmp_path / "none.rcc"))


@pytest.mark.parametrize("flags", [0, DEFLATED])
def test_a_cut_file_is_told_wherever_it_is_cut(flags: int, tmp_path: Path) -> None:
    files = {"a.webp": b"one", "birds": {"owl.webp": b"night" * 20}}
    whole = collection(files, flags).pack(2)
    for length in range(4, len(whole)):
        with pytest.raises(InputError, match=r"a\.rcc: "):
            list(resources(write(tmp_path / "a.rcc", whole[:length])))


def test_a_deflated_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    made = collection({"a.webp": b"night" * 20}, DEFLATED)
    made.contents = made.contents[:12] + bytes(len(made.contents) - 12)
    with pytest.raises(InputError, match="cut or broken resource collection"):
        list(resources(write(tmp_path / "a.rcc", made.pack(2))))


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midsight.data.qt_resources._MOST", 1000)
    fits, bomb = (collection({"a": bytes(count)}, DEFLATED).pack(2) for count in (1000, 1001))
    assert dict(resources(write(tmp_path / "a.rcc", fits))) == {"a": bytes(1000)}
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        list(resources(write(tmp_path / "a.rcc", bomb)))


@pytest.mark.parametrize("first", [0, 1])
def test_folders_that_hold_themselves_are_refused(first: int, tmp_path: Path) -> None:
    made = collection({"a": {"b": b"x"}})
    made.tree[1] = (*made.tree[1][:2], 1, first)
    with pytest.raises(InputError, match="lies in two folders"):
        list(resources(write(tmp_path / "a.rcc", made.pack(2))))


def test_folders_that_share_their_files_are_refused(tmp_path: Path) -> None:
    """Forty folders of two, each holding the next twice, would be 2**40 files."""
    made = Collection([(0, DIRECTORY, 2, 1)])
    for level in range(40):
        made.tree += [(made.name(f"a{level}"), DIRECTORY, 2, 3 + 2 * level)] * 2
    made.tree += [(made.name("b"), 0, 0, made.content(b"x", 0))] * 2
    with pytest.raises(InputError, match="lies in two folders"):
        list(resources(write(tmp_path / "a.rcc", made.pack(2))))


def test_folders_too_deep_to_walk_are_refused(tmp_path: Path) -> None:
    made = Collection([(0, DIRECTORY, 1, 1)])
    made.tree += [(made.name("a"), DIRECTORY, 1, 2 + level) for level in range(5000)]
    with pytest.raises(InputError, match="cut or broken"):
        list(resources(write(tmp_path / "a.rcc", made.pack(2))))


@pytest.mark.parametrize("name", ["", ".", "..", "../owl.webp", "/etc/owl.webp", "a\\owl.webp", "owl.webp\0"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    for files in ({name: b"x"}, {name: {"owl.webp": b"x"}}):
        with pytest.raises(InputError, match="is no name of a file"):
            list(resources(write(tmp_path / "a.rcc", collection(files).pack(2))))


def unpacked(root: Path, files: dict[str, Any]) -> Path:
    """What `packaged` makes of collections with these files, in a package that is there already."""
    folder = root / "gcompris-qt-data"
    inside = folder / "usr/share/gcompris-qt/rcc"
    inside.mkdir(parents=True)
    (folder / ".complete").touch()
    for name in ("categorization", "explore_farm_animals", "explore_world_animals"):
        write(inside / f"{name}.rcc", collection({"gcompris": {name: files}}).pack(2))
    return packaged._unpacked_resources(root)


def test_photographs_of_a_package_are_unpacked_once(tmp_path: Path) -> None:
    out = unpacked(tmp_path, FILES)
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == {
        f"{activity}/{Path(name).name}": data
        for activity in ("categorization", "explore_farm_animals", "explore_world_animals")
        for name, data in FLAT.items()
        if name.endswith(".webp")
    }
    (out / "categorization" / "a.webp").write_bytes(b"kept")
    assert packaged._unpacked_resources(tmp_path) == out
    assert (out / "categorization" / "a.webp").read_bytes() == b"kept"


def test_unpacking_never_leaves_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name of a file"):
        unpacked(tmp_path / "inside", {"good.webp": b"x", "../../../../evil.webp": b"x"})
    assert not list(tmp_path.rglob("evil.webp"))
    assert not (tmp_path / "inside/gcompris-qt-data/unpacked/categorization").exists()  # nothing half done is used
