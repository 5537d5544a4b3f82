"""Tiny data sets of every kind, with the same samples."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from midsight.data.shards import ShardWriter


def picture(seed: int = 0, size: int = 12) -> bytes:
    """A PNG of one colour."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(0, 256, 3))).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with open(path, "wb") as file, ShardWriter(file) as shard:
        for key, files in samples.items():
            shard.add(key, files)
    return path


def shards(folder: Path, count: int, per_shard: int = 7) -> Path:
    folder.mkdir()
    for start in range(0, count, per_shard):
        rows = range(start, min(start + per_shard, count))
        samples = {f"{k:04d}": {"png": picture(k), "txt": f"caption {k}".encode()} for k in rows}
        write_shard(folder / f"a-{start:04d}.tar", samples)
    return folder


def captioned_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for k in range(count):
        (folder / f"{k:04d}.png").write_bytes(picture(k))
        (folder / f"{k:04d}.txt").write_text(f"caption {k}\n")
    return folder


def csv_table(folder: Path, count: int) -> Path:
    captioned_folder(folder, count)
    with open(folder / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption"))
        writer.writerows((f"{k:04d}.png", f"caption\n{k}") for k in range(count))  # a line break within a field
    return folder / "pairs.csv"


def jsonl_table(folder: Path, count: int) -> Path:
    captioned_folder(folder, count)
    lines = (json.dumps({"image": f"{k:04d}.png", "caption": f"caption {k}"}) for k in range(count))
    (folder / "pairs.jsonl").write_text("\n".join(lines))  # the last line has no end
    return folder / "pairs.jsonl"


MAKERS: dict[str, Callable[[Path, int], Path]] = {
    "shards": shards, "folder": captioned_folder, "csv": csv_table, "jsonl": jsonl_table,
}  # fmt: skip
