"""Files a second: `midsight index` beside the usual open_clip loop and clip-retrieval's way, folder to results."""

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import midsight
from benchmarks import media
from benchmarks.child import open_clip_transform
from benchmarks.common import check_same, cpu_seconds, ratio, verdict
from benchmarks.names import SIZES
from benchmarks.twins import Twins

NAME = "PE-Core-T16-384"
COUNT, SIZE = 32, (1280, 960)
BATCH, ROUNDS = 8, 5
GOAL = 1.0
ABOUT = (
    f"Indexing: {COUNT} made JPEGs of {SIZE[0]}x{SIZE[1]} pixels, the T configuration with the same random weights in "
    "fp32, one encoding thread, one process that decodes; CPU time of both for each file beyond the first, so that "
    "what is paid once (the start of that process) is not in it. midsight: `Indexer`, with hash, table of files and "
    "commits. The open_clip loop: a DataLoader with one worker, its transform, `encode_image`, one numpy array in the "
    "end. clip-retrieval cannot be installed beside open_clip 3, which first knew these models (it asks for "
    "open_clip below 3, numpy below 2 and pyarrow below 16), so that its way stands here in our words: the same loop "
    "over a DataLoader of dictionaries, embeddings to half precision batch by batch, then one .npy and a Parquet of "
    "names."
)
Array = npt.NDArray[np.float32]
Index = Callable[[Path, Path], object]  # a folder of pictures, and an empty one for results


def rows(scratch: Path) -> list[dict[str, str]]:
    """One line for each peer."""
    pair = Twins(NAME)
    pair.save(scratch)
    model = midsight.load(scratch / "midsight", device="cpu", threads=1)
    model.identity  # noqa: B018  (once, not in each round)
    media.write_jpegs(scratch / "many", COUNT, SIZE)
    media.write_jpegs(scratch / "one", 1, SIZE)
    calls: dict[str, Index] = {
        "midsight": lambda pictures, out: index(model, pictures, out),
        "open_clip loop": lambda pictures, out: open_clip_loop(pair.open_clip, pictures),
        "clip-retrieval's way": lambda pictures, out: clip_retrieval(pair.open_clip, pictures, out),
    }
    expected = open_clip_loop(pair.open_clip, scratch / "many")
    check_same(index(model, scratch / "many", scratch / "out"), expected, "indexed and by open_clip")
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):  # the first one warms up
        for name, call in calls.items():
            taken = [_spent(call, scratch / which, scratch / "out") for which in ("many", "one")]
            if number:
                cpu[name].append((taken[0][0] - taken[1][0]) / (COUNT - 1))
                wall[name].append((taken[0][1] - taken[1][1]) / (COUNT - 1))
    return [_row(cpu, wall, peer) for peer in calls if peer != "midsight"]


def _row(cpu: dict[str, list[float]], wall: dict[str, list[float]], peer: str) -> dict[str, str]:
    found = ratio(cpu["midsight"], cpu[peer], peer)
    rates = [1 / float(np.median(wall[name])) for name in ("midsight", peer)]
    return {
        "Case": f"indexing, {SIZE[0]}x{SIZE[1]} JPEGs, T16-384",
        "Speed": str(found),
        "Goal": verdict(found, GOAL),
        "p50 / p99": f"{1000 * np.median(cpu['midsight']):.0f} ms ({peer} {1000 * np.median(cpu[peer]):.0f} ms) a file",
        "By the clock": f"{rates[0]:.1f} files/s ({peer} {rates[1]:.1f})",
    }


def index(model: Any, pictures: Path, out: Path) -> Array:
    """The library call of `midsight index`; embeddings by name, float32 (N, D)."""
    from midsight.library.index import Indexer, Library

    with Indexer(model, pictures, out / "index", batch_size=BATCH) as indexer:
        for outcome in indexer.run():
            assert outcome.result == "indexed", outcome
    with Library(out / "index") as library:
        found = [row for batch in library.store.scan(["path", "embedding"]) for row in batch.to_pylist()]
    shutil.rmtree(out)
    return np.array([row["embedding"] for row in sorted(found, key=lambda row: row["path"])], np.float32)


def open_clip_loop(model: Any, pictures: Path) -> Array:
    """The usual loop; float32 (N, D)."""
    with torch.inference_mode():
        parts = [model.encode_image(batch["image"], normalize=True) for batch in _loader(pictures)]
    found: Array = torch.cat(parts).numpy()
    return found


def clip_retrieval(model: Any, pictures: Path, out: Path) -> None:
    """Read, encode, halve, keep; write a partition at the end."""
    import pandas

    names: list[str] = []
    parts: list[npt.NDArray[np.float16]] = []
    with torch.no_grad():
        for batch in _loader(pictures):
            features = model.encode_image(batch["image"])
            features /= features.norm(dim=-1, keepdim=True)
            parts.append(features.to(torch.float16).numpy())
            names += batch["name"]
    out.mkdir(parents=True)
    np.save(out / "img_emb_0.npy", np.concatenate(parts))
    pandas.DataFrame({"image_path": names}).to_parquet(out / "metadata_0.parquet")
    shutil.rmtree(out)


def _loader(pictures: Path) -> Any:
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    paths, transform = sorted(pictures.glob("*.jpg")), open_clip_transform(SIZES[NAME])

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, number: int) -> dict[str, Any]:
            with Image.open(paths[number]) as image:
                return {"name": str(paths[number]), "image": transform(image)}

    warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)  # its worker has nothing to do with it
    return DataLoader(Files(), batch_size=BATCH, num_workers=1)


def _spent(call: Index, pictures: Path, out: Path) -> tuple[float, float]:
    """CPU and wall seconds."""
    start, begun = cpu_seconds(), time.perf_counter()
    call(pictures, out)
    return cpu_seconds() - start, time.perf_counter() - begun
