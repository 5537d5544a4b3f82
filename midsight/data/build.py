"""Packaged open pictures as webdataset shards, with their terms in every sample and in an ATTRIBUTION.txt beside them.

A build is a journal and whole shards: stopped, it goes on with the shards that are missing. The same packages give the
same bytes. What is for measuring only is built on request, and marked so that training refuses it.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midsight.data import packaged
from midsight.data.datasets import EVALUATION_MARK
from midsight.data.loader import TRAINING_LIMITS
from midsight.data.packaged import Picture
from midsight.data.packages import PACKAGES
from midsight.data.shards import ShardWriter, json_bytes, safe_key
from midsight.errors import ConfigError, InputError, MediaError, OutputError
from midsight.files import Journal, atomic_write
from midsight.images import load_image

BUILDS: Mapping[str, Callable[[Path], list[Picture]]] = {
    "emoji": packaged.emoji,
    "clip-art": packaged.clip_art,
    "furniture": packaged.furniture,
    "open-moji": packaged.open_moji,
}
JOURNAL, ATTRIBUTION = "journal.jsonl", "ATTRIBUTION.txt"


@dataclass(frozen=True)
class Built:
    """What a build made."""

    shards: tuple[Path, ...]
    samples: int
    failures: dict[str, str]  # picture -> why it is left out


def build(
    name: str,
    out: Path,
    root: Path,
    *,
    evaluation: bool = False,
    per_shard: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Shards of one of `BUILDS`, fetched below `root` where it is not there yet.

    Raises:
        InputError: an unknown name, or packages that cannot be had, or a set that is not for training without
            `evaluation`.
        OutputError: as `write_pictures`.
    """
    if name not in BUILDS:
        raise InputError(f"{name!r}: no such data. Known are {', '.join(BUILDS)}.")
    if name == "open-moji" and not evaluation:  # refused before anything is fetched
        raise InputError(_refusal("openmoji"))
    pictures = BUILDS[name](root)
    return write_pictures(name, pictures, out, root, evaluation=evaluation, per_shard=per_shard, progress=progress)


def write_pictures(
    name: str,
    pictures: Sequence[Picture],
    out: Path,
    root: Path,
    *,
    evaluation: bool = False,
    per_shard: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Pictures with captions as `out/NAME-000000.tar` and so on.

    Each sample has the picture as it came (drawings in SVG as PNG), `.txt` (its name) and `.json` (caption, keywords,
    source, licence, author). A picture that cannot be read or has too many pixels is left out and named.

    Args:
        root: where drawings in SVG are rasterised to.
        evaluation: allow sources that are not for training; the folder is then marked.
        progress: called with the number of pictures done and of all.

    Raises:
        InputError: no pictures, or one of a source that is not for training.
        ConfigError: `per_shard` below 1.
        OutputError: the disk is full, or `out` holds another build.
        MissingDependencyError: rsvg-convert is needed and not there.
    """
    if per_shard < 1:
        raise ConfigError(f"per_shard must be at least 1, got {per_shard}")
    if not pictures:
        raise InputError(f"{name}: no pictures to build shards of. Were the packages unpacked whole?")
    held_out = sorted({picture.source for picture in pictures if not PACKAGES[picture.source].shipped})
    if held_out and not evaluation:
        raise InputError(_refusal(", ".join(held_out)))
    _make_folder(out)
    if held_out:
        with atomic_write(out / EVALUATION_MARK) as file:
            file.write(f"Not for training: {', '.join(held_out)}.\n".encode())
    with Journal(out / JOURNAL) as journal:
        done = journal.resume({"name": name, "per_shard": per_shard, "pictures": _digest(pictures, root)}, "shard")
        paths = []
        for number, start in enumerate(range(0, len(pictures), per_shard)):
            path = out / f"{name}-{number:06d}.tar"
            paths.append(path)
            if path.name not in done or not path.exists():
                done[path.name] = _write_shard(path, pictures[start : start + per_shard], start, root)
                journal.append(done[path.name])
            if progress is not None:
                progress(min(start + per_shard, len(pictures)), len(pictures))
    with atomic_write(out / ATTRIBUTION) as file:
        file.write(attribution(pictures).encode())
    failures = {key: why for path in paths for key, why in done[path.name]["failures"].items()}
    return Built(tuple(paths), sum(done[path.name]["samples"] for path in paths), failures)


def attribution(pictures: Sequence[Picture]) -> str:
    """Who made the pictures, under which terms: a line for each source, licence and author."""
    counts = Counter((p.source, p.licence, p.author) for p in pictures)
    lines = [
        "These pictures come from the packages below, unchanged but for drawings in SVG, which are rasterised.",
        "",
    ]
    for (source, licence, author), number in sorted(counts.items()):
        by = author or PACKAGES[source].attribution
        lines.append(f"{source} {PACKAGES[source].version}".rstrip() + f": {number} pictures, {licence}, by {by}")
    return "\n".join(lines) + "\n"


def _refusal(sources: str) -> str:
    return f"{sources}: for evaluation only, never trained on. Add --evaluation to build it for measuring."


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror or error}). Name a folder.") from error


def _write_shard(path: Path, pictures: Sequence[Picture], first: int, root: Path) -> dict[str, Any]:
    """Writes one shard whole, and tells for the journal what is in it."""
    failures: dict[str, str] = {}
    samples = 0
    with atomic_write(path) as file, ShardWriter(file) as shard:
        for number, picture in enumerate(pictures, start=first):
            key = f"{number:06d}-{safe_key(picture.path.stem)}"
            try:
                files = _files(picture, root)
            except (MediaError, InputError) as error:  # InputError: a drawing that cannot be rasterised
                failures[f"{picture.source}/{picture.path.name}"] = str(error)
                continue
            shard.add(key, files)
            samples += 1
    return {"shard": path.name, "samples": samples, "failures": failures}


def _files(picture: Picture, root: Path) -> dict[str, bytes]:
    if not picture.captions:
        raise InputError(f"{picture.path}: has no caption. Expected a name at least.")
    path = picture.path
    if path.suffix.lower() == ".svg":
        folder = root / "rasterised" / safe_key(picture.source)
        path = next(packaged.rasterise([path], folder))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error}).") from error
    load_image(data, limits=TRAINING_LIMITS)
    caption, *keywords = picture.captions
    record = {
        "caption": caption, "keywords": keywords, "source": picture.source, "licence": picture.licence,
        "author": picture.author or PACKAGES[picture.source].attribution,
        "evaluation_only": not PACKAGES[picture.source].shipped,
    }  # fmt: skip
    return {path.suffix[1:].lower(): data, "txt": caption.encode(), "json": json_bytes(record)}


def _digest(pictures: Sequence[Picture], root: Path) -> str:
    """Of everything that goes into the shards except pixels, of which the sizes must do."""
    digest = hashlib.sha256()
    for picture in pictures:
        place = os.path.relpath(picture.path, root)
        terms = (picture.captions, picture.source, picture.licence, picture.author)
        digest.update(repr((place, _size(picture.path), *terms)).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
