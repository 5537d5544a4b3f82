"""How many of the true nearest rows a search through an index finds."""

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.library.stores import Store

Array = npt.NDArray[np.float32]

QUESTIONS = 50
_SEED = 0
_APART = 0.5  # length of the noise that is added to a row to make a question of it: nobody asks for a row itself


def measure_recall(store: Store, questions: Array | None = None, top: int = 10) -> float:
    """Share of the `top` nearest rows, found by comparing with all, that the store's own search finds, too.

    Args:
        questions: float32 (Q, D), of length 1; None takes `QUESTIONS` stored rows at random, each moved by noise.

    Returns:
        From 0 to 1; 1 where there is no index, for then the search compares with all.

    Raises:
        InputError: no rows, or questions of another size.
    """
    asked = make_questions(store, QUESTIONS) if questions is None else np.asarray(questions, np.float32)
    if asked.ndim != 2 or asked.shape[1] != store.dim or not len(asked):
        raise InputError(f"questions must be (Q, {store.dim}), got {asked.shape}")
    shares = []
    for question in asked:
        true = {match.row["id"] for match in store.search(question, top, exact=True)}
        found = {match.row["id"] for match in store.search(question, top)}
        shares.append(len(true & found) / max(1, len(true)))
    return float(np.mean(shares))


def make_questions(store: Store, count: int) -> Array:
    """Stored rows at random, each moved by noise, float32 (count, D), of length 1; the same ones each time.

    Raises:
        InputError: no rows.
    """
    rng = np.random.default_rng(_SEED)
    rows = store.count()
    if not rows:
        raise InputError(f"{store.address}: no rows, so there is nothing to find")
    wanted = set(rng.choice(rows, min(count, rows), replace=False).tolist())
    chosen, at = [], 0
    for batch in store.scan(["embedding"]):
        inside = [number - at for number in wanted if at <= number < at + batch.num_rows]
        values = batch.column("embedding").flatten().to_numpy(zero_copy_only=False).reshape(-1, store.dim)
        chosen.append(values[sorted(inside)])
        at += batch.num_rows
    stored = np.concatenate(chosen)
    noise = rng.normal(size=stored.shape).astype(np.float32)
    moved = stored + _APART * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    questions: Array = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return questions
