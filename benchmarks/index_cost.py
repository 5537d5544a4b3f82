"""`python -m benchmarks.index_cost [overhead] [memory]`: what an index takes beside the encoder, with figures.

overhead: CPU time of a file beside the plain loop `Perception.iter_embed`, which stores nothing and which one bad file
can hang: without and with decoders in processes of their own, over good files and over a folder with 3 % broken ones.
The encoder is a stand-in there, for the difference is smaller than the noise of the real one; what the real one takes
is measured in the same rounds.

memory: resident memory while an index of many small pictures grows, by a small random model; the slope after a warm-up.
That of the decoder is its template's and its own, which share most of it.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import argparse  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import contextmanager, suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import midsight  # noqa: E402
from benchmarks.common import cpu_seconds  # noqa: E402
from benchmarks.index_faults import SHARE_BROKEN, break_files, draw  # noqa: E402
from midsight import checkpoints, pe  # noqa: E402
from midsight.api import Perception  # noqa: E402
from midsight.configs import PEConfig, PETextConfig, PreprocessConfig  # noqa: E402

GOAL = 0.02  # of the plain loop's CPU time
ROUNDS = 5
REAL = 16  # pictures of a sample of the real encoder
DISTINCT = 4000  # contents; the files beyond are hard links to these
WARM_UP = 0.3  # share of the files behind which the slope is taken
SLOPE = 1000  # bytes of a file, at most
SAMPLED_EVERY = 500  # files


def overhead(folder: Path, count: int) -> list[str]:
    """Milliseconds of CPU time a file, paired with the plain loop's."""
    from midsight.library.index.decode import COMMAND

    good, mixed = folder / "good", folder / "mixed"
    good.mkdir()
    paths = [draw(good / f"{i:05d}.jpg", seed=i) for i in range(count)]
    shutil.copytree(good, mixed)
    broken = break_files(mixed, round(count * SHARE_BROKEN))
    model = midsight.load(device="cpu", threads=1)
    model.identity  # noqa: B018  (once, not in each round)
    cases: dict[str, Callable[[], object]] = {
        "one file": lambda: index(model, _one(folder), COMMAND),
        "in threads": lambda: index(model, good, None),
        "in processes": lambda: index(model, good, COMMAND),
        "in processes, 3 % more of them broken": lambda: index(model, mixed, COMMAND),
    }
    spent: dict[str, list[float]] = {name: [] for name in ("encoder", "plain loop", *cases)}
    for number in range(ROUNDS + 1):  # the first one warms up
        one = {"encoder": (_cpu(lambda: embed(model, paths[:REAL])) / REAL)}
        with stand_in(model):
            one["plain loop"] = _cpu(lambda: embed(model, paths)) / count
            one["encoder"] -= one["plain loop"]
            for name, call in cases.items():
                one[name] = _cpu(call) / (1 if name == "one file" else count)
        for name, seconds in one.items():
            if number:
                spent[name].append(1000 * seconds)
    return _lines(spent, count, len(broken))


def _lines(spent: dict[str, list[float]], count: int, broken: int) -> list[str]:
    encoder, plain, start = (np.array(spent[name]) for name in ("encoder", "plain loop", "one file"))
    lines = [
        f"overhead: {count} good files, {broken} broken; CPU time of a file, median of {ROUNDS} rounds: plain loop "
        f"{np.median(plain):.2f} ms and its encoder {np.median(encoder):.1f} ms; starting a decoder, once a job, "
        f"{np.median(start):.0f} ms, which is not counted below"
    ]
    for name in spent.keys() - {"encoder", "plain loop", "one file"}:
        own = np.array(spent[name]) - (0 if name == "in threads" else start / count) - plain
        share = own / (plain + encoder)
        met = "met" if np.median(share) < GOAL else "missed"
        lines.append(
            f"  {name}: {np.median(own):+.2f} ms, {np.median(share):+.1%} ({share.min():+.1%} to {share.max():+.1%}); "
            f"goal < {GOAL:.0%}, {met}"
        )
    return [lines[0], *sorted(lines[1:])]


def embed(model: Perception, paths: list[Path]) -> None:
    """The plain loop."""
    for outcome in model.iter_embed(paths):
        outcome.unwrap()


def index(model: Perception, root: Path, decoder: Any) -> None:
    """The whole folder anew."""
    from midsight.library.index import Indexer

    shutil.rmtree(root / ".midsight", ignore_errors=True)
    with Indexer(model, root, decoder=decoder) as indexer:
        for _ in indexer.run():
            pass


@contextmanager
def stand_in(model: Any) -> Any:
    """An encoder that takes no time."""
    features = torch.randn(64, model.dim, generator=torch.Generator().manual_seed(0))
    model._encode = lambda images: features[: len(images)]
    try:
        yield
    finally:
        del model._encode


def memory(folder: Path, count: int) -> list[str]:
    """The slope of the resident memory, of this process and of its decoder."""
    from midsight.library.index import Indexer

    root = folder / "small"
    write_small(root, count)
    model = midsight.load(small_model(folder), device="cpu", threads=1)
    samples: list[tuple[int, int, int]] = []  # files, bytes of this process, bytes of its children
    start = time.perf_counter()
    with Indexer(model, root) as indexer:
        for number, outcome in enumerate(indexer.run()):
            assert outcome.did == "embedded", outcome
            if number % SAMPLED_EVERY == 0:
                samples.append((number, _resident(os.getpid()), sum(map(_resident, _children()))))
        rows = indexer.summary().rows
    assert rows == count, f"{rows} rows of {count} files"
    files, own, children = np.array([one for one in samples if one[0] >= WARM_UP * count], np.float64).T
    slopes = [float(np.polyfit(files, values, 1)[0]) for values in (own, children)]
    met = "met" if sum(slopes) < SLOPE else "missed"
    return [
        f"memory: {count:,} pictures of 8 to 32 pixels a side in {time.perf_counter() - start:.0f} s; behind the first "
        f"{files[0]:,.0f}: {slopes[0]:+.0f} bytes a file, its decoder {slopes[1]:+.0f}; from {own[0] / 1e6:.0f} to "
        f"{own[-1] / 1e6:.0f} MB, decoder {children[0] / 1e6:.0f} to {children[-1] / 1e6:.0f} MB; goal < {SLOPE}, {met}"
    ]


def write_small(root: Path, count: int) -> None:
    """So many small pictures: some thousand contents, and hard links. The first run of an index reads each of them."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            height, width = rng.integers(8, 33, 2)
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        else:
            first = number % DISTINCT
            os.link(root / f"{first // 1000:03d}" / f"{first:06d}.png", path)


def small_model(folder: Path) -> Path:
    """A pair of random weights that takes less than a file's decoding."""
    vision = PEConfig(
        patch_size=8, width=48, layers=2, heads=3, mlp_ratio=2.0, output_dim=320, image_size=32, use_cls_token=True
    )
    text = PETextConfig(context_length=16, width=32, heads=2, layers=1, output_dim=320)
    model, preprocess = pe.CLIP(vision, text), PreprocessConfig(image_size=32)
    place = folder / "model"
    checkpoints.save_pretrained(
        place, model.state_dict(), name="small", vision=vision, text=text, preprocess=preprocess
    )
    return place


def _resident(process: int) -> int:
    """Bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _children(process: int | str = "self") -> list[int]:
    """All below a process: a reader is a child of its template."""
    found = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_children(child)]
    return found


def _one(folder: Path) -> Path:
    place = folder / "one"
    if not place.exists():
        place.mkdir()
        draw(place / "0.jpg", seed=0)
    return place


def _cpu(call: Callable[[], object]) -> float:
    start = cpu_seconds()
    call()
    return cpu_seconds() - start


def main() -> None:
    """Runs what is asked for, and prints a line or two for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work: dict[str, Callable[[Path, Any], list[str]]] = {
        "overhead": lambda folder, args: overhead(folder, args.count),
        "memory": lambda folder, args: memory(folder, args.files),
    }
    parser.add_argument("names", nargs="*", metavar="COST", help=f"{', '.join(work)}; all if none is named")
    parser.add_argument("--count", type=int, default=1000, help="good files of overhead")
    parser.add_argument("--files", type=int, default=100_000, help="files of memory")
    args = parser.parse_args()
    if set(args.names) - set(work):
        parser.error(f"there are {', '.join(work)}")
    for name in args.names or work:
        with tempfile.TemporaryDirectory(prefix="index-cost-") as folder:
            for line in work[name](Path(folder), args):
                print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
