"""Search: how long do indexing, a first answer and a question take, and how much of the truth comes?

Among 10,000, 100,000 and a million rows; `index_speed` and `search_start` have what comes before.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import index_speed, search_start
from benchmarks.common import in_turn, ratio
from benchmarks.report import Section

Array = npt.NDArray[np.float32]

ROWS = (10_000, 100_000, 1_000_000)
DIM = 320  # as the embedded model's
GROUPS = 2000  # of made vectors: what is embedded lies in heaps
SPREAD = 0.8  # length of the noise around a heap's middle
PIECE = 50_000  # rows of a commit
QUESTIONS, TOP = 200, 10
ROUNDS = 15
RECALL, SECONDS_99 = 0.98, 0.05  # the second at 100,000 rows
INTRO = (
    f"Made embeddings of {DIM} numbers, in {GROUPS} heaps, in a LanceDB folder as `midsight index` writes and looks "
    f"after it: the {TOP} nearest rows with all their columns, one question after the other, all CPUs, by the clock. "
    "Beside it numpy: one product of the question with all rows in memory and its best, without columns, which is "
    f"what small tools do. Recall: share of the true {TOP} that come; exact search compares with all rows. Another "
    "program's search is LanceDB's own with nothing set."
)


def run() -> Section:
    """What comes before a question, then each number of rows."""
    section = Section("Search", INTRO)
    for about, before in ((index_speed.ABOUT, _indexing), (search_start.ABOUT, _starting)):
        with tempfile.TemporaryDirectory() as scratch:
            section.notes.append(about)
            section.rows += before(Path(scratch))
            print(*section.rows, sep="\n", file=sys.stderr, flush=True)
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            section.rows.append(measure(Path(scratch), rows))
            print(section.rows[-1], file=sys.stderr, flush=True)
    return section


def _indexing(scratch: Path) -> list[dict[str, str]]:
    return index_speed.rows(scratch)


def _starting(scratch: Path) -> list[dict[str, str]]:
    return search_start.rows(scratch, lambda store: add(store, made(ROWS[0], store.dim), 0))


def measure(scratch: Path, rows: int) -> dict[str, str]:
    """One line: latency, recall, and what the index takes to build."""
    from midsight.library.index.recall import make_questions, measure_recall
    from midsight.library.stores import open_store

    store: Any = open_store(str(scratch / "rows"), DIM, create=True)
    vectors = made(rows)
    for start in range(0, rows, PIECE):
        add(store, vectors[start : start + PIECE], start)
    begun = time.perf_counter()
    store.optimize()
    built = time.perf_counter() - begun
    asked = make_questions(store, QUESTIONS)
    recall = measure_recall(store, asked, TOP)
    latencies = [_seconds(lambda question=question: store.search(question, TOP)) for question in asked]
    p50, p99 = (float(np.percentile(latencies, share)) for share in (50, 99))
    times = in_turn(
        {
            "midsight": lambda: store.search(asked[0], TOP),
            "numpy": lambda: np.argpartition(vectors @ asked[0], -TOP)[-TOP:],
        },
        ROUNDS,
        time.perf_counter,
    )
    met = recall >= RECALL and (rows != 100_000 or p99 < SECONDS_99)
    wanted = f"recall >= {RECALL}" + (f", p99 < {1000 * SECONDS_99:.0f} ms" if rows == 100_000 else "")
    return {
        "Case": f"{rows:,} rows, {'index' if store.has_index() else 'exact'}",
        "Speed": str(ratio(times["midsight"], times["numpy"], "numpy")),
        "Goal": f"{wanted}, " + ("met" if met else "**missed**"),
        "Recall": f"{recall:.3f} (another program's search {plain_recall(store, asked):.3f})",
        "p50 / p99": f"{1000 * p50:.1f} / {1000 * p99:.1f} ms",
        "Built in": f"{built:.0f} s",
    }


def made(rows: int, dim: int = DIM) -> Array:
    """Vectors of length 1 in heaps, float32 (rows, dim)."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(GROUPS, dim)).astype(np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    found: Array = rng.standard_normal((rows, dim), dtype=np.float32)
    found *= SPREAD / np.linalg.norm(found, axis=1, keepdims=True)
    found += middles[rng.integers(GROUPS, size=rows)]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def add(store: Any, vectors: Array, first: int) -> None:
    """Rows with these embeddings, numbered from `first`."""
    import pyarrow as pa

    from midsight.library.stores.base import row_schema

    ids = [f"{first + number:032x}" for number in range(len(vectors))]
    values: dict[str, Any] = {name: [None] * len(ids) for name in row_schema(vectors.shape[1]).names}
    values |= {
        "id": ids,
        "file": ids,
        "path": [f"made/{name}.jpg" for name in ids],
        "kind": ["image"] * len(ids),
        "size": [0] * len(ids),
        "mtime": [0.0] * len(ids),
        "tags": [[] for _ in ids],
    }
    values["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    store.replace(ids, pa.table(values, schema=row_schema(vectors.shape[1])))


def plain_recall(store: Any, asked: Array) -> float:
    """What LanceDB alone finds with nothing set, as somebody else's program asks it."""
    import lancedb

    table, shares = lancedb.connect(store.address).open_table("rows"), []
    for question in asked:
        true = {match.row["id"] for match in store.search(question, TOP, exact=True)}
        shares.append(len(true & {row["id"] for row in table.search(question).limit(TOP).to_list()}) / TOP)
    return float(np.mean(shares))


def _seconds(call: Any) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
