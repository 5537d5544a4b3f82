"""Drawn pictures with exact objects, as shards of the scene engine hold them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from midsight.data.shards import ShardWriter, json_bytes
from midsight.files import atomic_write

SIDE = 64
COLOURS = ((40, 40, 40), (220, 40, 40), (40, 60, 220))  # surroundings, first and second object


def drawing(number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels uint8 (S, S, 3) and ids uint8 (S, S): two boxes, the second one before the first."""
    rng = np.random.default_rng(number)
    ids = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for k in (1, 2):
        top, left = rng.integers(0, SIDE - 24, 2)
        high, wide = rng.integers(14, 24, 2)
        ids[top : top + high, left : left + wide] = k
    pixels = np.array(COLOURS, dtype=np.uint8)[ids]
    return pixels, ids


def labels(ids: np.ndarray[Any, Any]) -> bytes:
    """The NPZ of a picture, in stored types."""
    buffer, size = io.BytesIO(), ids.shape
    np.savez_compressed(
        buffer, ids=ids, depth_mm=np.full(size, 2000, np.uint16) - 500 * ids.astype(np.uint16),
        normals=np.zeros((*size, 3), np.int8), intrinsics=np.eye(3), world_to_camera=np.eye(4),
        poses=np.zeros((2, 4, 4)),
    )  # fmt: skip
    return buffer.getvalue()


def write_blocks(folder: Path, count: int = 12, with_labels: bool = True) -> Path:
    """A folder with one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "scenes-000000.tar") as file, ShardWriter(file) as shard:
        for number in range(count):
            pixels, ids = drawing(number)
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "PNG")
            objects = [{"id": k, "name": name, "category": name} for k, name in ((1, "red"), (2, "blue"))]
            files = {"png": encoded.getvalue(), "json": json_bytes({"objects": objects})}
            shard.add(f"{number:06d}", files | ({"npz": labels(ids)} if with_labels else {}))
    return folder
