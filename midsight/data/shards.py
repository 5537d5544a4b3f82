"""webdataset shards: tar files in which consecutive members of one name are one sample. Read in any order, and written.

Members are found by their headers and read straight from their place, so that a shuffled or resumed stream costs no
more than one in order. Nothing is unpacked to the disk. The published PE Video Dataset (`mp4` with a `json` that holds
human_caption and model_caption) reads as it is.
"""

import hashlib
import io
import json
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from midsight.data.samples import (
    CAPTION_FIELDS,
    MAX_TEXT_BYTES,
    BadSample,
    Problem,
    Sample,
    caption_in,
    caption_of,
    kind_of,
    plain_caption,
    text_of,
)  # fmt: skip

_TEXTS = ("txt", "caption")
MAX_MEDIA_BYTES = 2 << 30  # of one member
_SPARSE_OR_LINKED = "is a link, a device or a sparse file. Expected a regular file"


@dataclass(frozen=True)
class Member:
    """One file within a shard."""

    suffix: str  # all behind the first dot of its name, lower case: "jpg", "json", "seg.png"
    offset: int  # bytes from the shard's beginning
    size: int


@dataclass(frozen=True)
class Group:
    """The members of one sample."""

    key: str  # with the shard's name
    members: tuple[Member, ...]


@dataclass(frozen=True)
class ShardPart:
    """One tar file.

    Args:
        caption_fields: of the JSON member, the first that is not empty. A `.txt` member comes before all of them.
        labels: also read the `.npz` member, where there is one.
    """

    path: Path
    caption_fields: tuple[str, ...] = CAPTION_FIELDS
    needs_caption: bool = True
    labels: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    def fingerprint(self) -> str:
        """Of the size: reading whole shards would take as long as training on them."""
        return hashlib.sha256(str(self.path.stat().st_size).encode()).hexdigest()

    def listing(self) -> Sequence[Group | Problem]:
        """Samples in the order of the file; unusable members and a cut end as problems."""
        found = list(_groups(self.path))
        return found or [Problem(self.name, "empty shard", "holds no sample")]

    def read(self, entry: Group | Problem) -> Sample:
        if isinstance(entry, Problem):
            raise entry.error()
        members = {member.suffix: member for member in entry.members}
        chosen = next(((m, kind) for m in entry.members if (kind := kind_of(f".{m.suffix}"))), None)
        if chosen is None:
            held = ", ".join(members) or "nothing"
            raise BadSample("neither picture nor video", f"{entry.key}: holds {held}. Expected a picture or a video.")
        member, kind = chosen
        try:
            with open(self.path, "rb") as file:
                caption, facts = self._words(entry.key, members, file)
                media, beside = _bytes(file, entry.key, member, MAX_MEDIA_BYTES), members.get("npz")
                wanted = self.labels and beside is not None
                labels = _bytes(file, entry.key, members["npz"], MAX_MEDIA_BYTES) if wanted else None
                return Sample(entry.key, media, caption, kind, facts, labels)
        except OSError as error:
            raise BadSample("unreadable shard", f"{self.path}: {error.strerror or error}.") from error

    def _words(self, key: str, members: Mapping[str, Member], file: IO[bytes]) -> tuple[str, dict[str, Any]]:
        """The caption, and what the JSON member says."""
        facts: dict[str, Any] = {}
        if (member := members.get("json")) is not None:
            try:
                facts = json.loads(text_of(key, _bytes(file, key, member, MAX_TEXT_BYTES)))
            except (ValueError, RecursionError) as error:
                raise BadSample("broken record", f"{key}: its .json is not JSON ({error}).") from error
            if not isinstance(facts, dict):
                raise BadSample("broken record", f"{key}: its .json is no object.")
        texts = (members[suffix] for suffix in _TEXTS if suffix in members)
        written = (plain_caption(text_of(key, _bytes(file, key, member, MAX_TEXT_BYTES))) for member in texts)
        caption = next(filter(None, written), "") or caption_in(facts, self.caption_fields)
        expected = f"a .txt, or {', '.join(self.caption_fields)} in a .json"
        return caption_of(key, caption, expected, self.needs_caption), facts


def _bytes(file: IO[bytes], key: str, member: Member, most: int) -> bytes:
    if member.size > most:
        raise BadSample("too large", f"{key}: its .{member.suffix} has {member.size} bytes, the limit is {most}.")
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) < member.size:
        raise BadSample("cut shard", f"{key}: the shard ends within its .{member.suffix}.")
    return data


def _groups(path: Path) -> Iterator[Group | Problem]:
    """Samples and problems in the order of the file."""
    key, members = "", list[Member]()
    for found in _members(path):
        if isinstance(found, Problem):
            if members:
                yield Group(f"{path.name}:{key}", tuple(members))
            key, members = "", []
            yield found
            continue
        name, member = found
        stem, suffix = name[: len(name) - len(member.suffix) - 1], member.suffix
        if members and (stem != key or any(suffix == other.suffix for other in members)):
            yield Group(f"{path.name}:{key}", tuple(members))
            members = []
        key = stem
        members.append(member)
    if members:
        yield Group(f"{path.name}:{key}", tuple(members))


def _members(path: Path) -> Iterator[tuple[str, Member] | Problem]:
    try:
        total = path.stat().st_size
        if total == 0:
            return
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                yield from _member(path, info, total)
            if tar.offset >= total:
                yield Problem(path.name, "cut shard", "has no end mark: what came behind its last member is missing.")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        yield Problem(path.name, "cut shard", f"is cut, damaged or compressed ({error}). Expected a plain tar file.")
    except OSError as error:
        yield Problem(path.name, "unreadable shard", f"cannot be read ({error.strerror or error}).")


def _member(path: Path, info: tarfile.TarInfo, total: int) -> Iterator[tuple[str, Member] | Problem]:
    """The member, or what is wrong with it; nothing for a folder and for a file without an ending."""
    name = info.name.replace("\\", "/")
    key = f"{path.name}:{info.name}"
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/") or "\0" in name:
        yield Problem(key, "unsafe name", "leads out of the shard. Expected a relative path without '..'.")
    elif info.isdir():
        return
    elif not info.isreg() or info.issparse():
        yield Problem(key, "not a regular file", f"{_SPARSE_OR_LINKED}.")
    elif info.offset_data + info.size > total:
        yield Problem(key, "cut shard", "the shard ends within it.")
    elif "." in (base := posixpath.basename(name).lstrip(".")):
        suffix = base.split(".", 1)[1]
        yield name, Member(suffix.lower(), info.offset_data, info.size)


class ShardWriter:
    """Writes samples into an open file as a tar: fixed times and owners, so the same samples give the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed below)

    def add(self, key: str, files: Mapping[str, bytes]) -> None:
        """One sample: content by suffix ("jpg", "txt", "json").

        Args:
            key: without a dot, for a dot ends the key.
        """
        for suffix, content in files.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size, info.mode = len(content), 0o644
            self._tar.addfile(info, io.BytesIO(content))

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._tar.close()  # writes the end mark


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as the bytes of a `.json` member."""
    return json.dumps(record, ensure_ascii=False).encode()


def shard_paths(folder: Path) -> list[Path]:
    """The tar files right in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".tar" and not path.name.startswith("."))


def safe_key(text: str) -> str:
    """A key for a file name: no dot, no separator."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in os.path.basename(text)) or "_"
