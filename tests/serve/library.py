"""A small library of pictures, a video and a document, its index, and a server of it."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import midsight
from benchmarks.serving import POLICY
from midsight.library.index import Indexer, Settings
from midsight.library.index.filetable import FileTable
from midsight.library.index.generation import address
from midsight.library.index.manifest import FILES, About, Manifest, write_about
from midsight.library.stores import open_store
from midsight.library.stores.base import row_schema
from midsight.serve import create_app
from midsight.serve.metrics import Metrics
from midsight.serve.services import Wanted, open_services
from tests.library.documents.makers import Sheet, write_pdf
from tests.serve.server import file, serving_app

__all__ = ["DEMO", "POLICY", "make_index", "make_many", "make_photos", "serving_library"]
DEMO = Path(midsight.__file__).parent / "assets" / "demo"


def make_photos(folder: Path) -> Path:
    """The demo's media in two folders, each of another day, and a document of two pages."""
    (folder / "old").mkdir(parents=True)
    for day, name in enumerate(("cat.jpg", "coffee.jpg", "motorcycle.jpg", "rocket.jpg", "temple.mp4")):
        target = folder / ("old" if day < 2 else "") / name
        shutil.copy(DEMO / name, target)
        os.utime(target, (1_600_000_000 + 86400 * day,) * 2)
    sheets = [Sheet([(72, 100, 24, "Minutes")]), Sheet([(72, 100, 24, "A budget for zeppelins")])]
    write_pdf(folder / "report.pdf", sheets)
    os.utime(folder / "report.pdf", (1_700_000_000,) * 2)
    return folder


def make_index(model: midsight.Perception, root: Path, clip_seconds: float = 2.0) -> Path:
    """Indexes a folder; videos as clips of two seconds."""
    with Indexer(model, root, decoder=None, settings=Settings(clip_seconds=clip_seconds)) as indexer:
        for _ in indexer.run():
            pass
    return indexer.folder


def make_many(model: midsight.Perception, load: str | None, root: Path, count: int) -> Path:
    """An index of so many made rows, all of them of twenty small pictures."""
    root.mkdir()
    for n in range(20):
        (root / f"{n}.png").write_bytes(file(n, width=60 + 8 * n))
    rng, index = np.random.default_rng(0), root / ".midsight"
    about = About.of(model, Settings(), About("", "", 0, load=load))
    write_about(index / "g0001", about)
    Manifest(index, root, "g0001").save()
    FileTable(index / "g0001" / FILES, create=True).close()
    vectors = rng.standard_normal((count, model.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{n:032x}" for n in range(count)]
    columns: dict[str, Any] = {
        "id": ids, "file": ids, "path": [f"{n % 20}.png" for n in range(count)], "kind": ["image"] * count,
        "start": [None] * count, "end": [None] * count, "page": [None] * count, "size": [1] * count,
        "mtime": [2e9 - n for n in range(count)], "hash": ["0"] * count,
        "width": [60 + 8 * (n % 20) for n in range(count)],
        "height": [60] * count, "look": ["0"] * count, "text": [None] * count, "tags": [[]] * count,
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), model.dim),
    }  # fmt: skip
    store = open_store(address(index / "g0001", about), about.dim, create=True)
    store.replace(ids, pa.table(columns, schema=row_schema(about.dim)))
    store.close()
    return index


@contextlib.contextmanager
def serving_library(index: Path, keys: Sequence[str] = (), **wanted: Any) -> Iterator[str]:
    """The address of a server of an index, for the time of the block."""
    metrics = Metrics()
    services = open_services(Wanted(device="cpu", threads=1, index=index, **wanted), metrics)
    with serving_app(create_app(services, keys, metrics)) as address:
        yield address
