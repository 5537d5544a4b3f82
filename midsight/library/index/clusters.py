"""What a collection is about: groups of rows that look alike, with names, and a map of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, MissingDependencyError
from midsight.library.index.library import Library
from midsight.library.index.matrix import read_matrix
from midsight.library.stores.base import EVERYTHING, INSTALL, Filter

if TYPE_CHECKING:
    from midsight.api import Perception

Array = npt.NDArray[np.float32]

MOST_CLUSTERS = 60  # where their number is not given
MOST_POINTS = 2000  # of the map; of more rows a part is drawn
_BIG = 20_000  # rows from which k-means sees a part of them at a time
_NAMES = 3  # words of one cluster
_SEED = 0


@dataclass(frozen=True)
class Member:
    """A row of a cluster.

    Attributes:
        path: below the root.
        file: the file itself.
        kind, start, page: where in it.
        similarity: cosine with the cluster's centre.
        x, y: place on the map, each from 0 to 1; None where it is not drawn.
    """

    path: str
    file: Path
    kind: str
    start: float | None
    page: int | None
    similarity: float
    x: float | None
    y: float | None


@dataclass(frozen=True)
class Cluster:
    """Rows that look alike, the most typical first, and words that fit their centre best."""

    members: list[Member]
    names: tuple[str, ...] = ()


def find_clusters(
    library: Library,
    count: int | None = None,
    where: Filter = EVERYTHING,
    *,
    words: Sequence[str] = (),
    model: "Perception | None" = None,
) -> list[Cluster]:
    """Groups of rows by k-means on their embeddings, the largest first; the same call gives the same groups.

    Args:
        count: how many; None takes about the root of half the rows, at most `MOST_CLUSTERS`.
        words: names to choose from, for the clusters.
        model: the index's own, for the names; none are given without it, or where it has no texts.

    Raises:
        InputError: no rows, or fewer than clusters.
        MissingDependencyError: scikit-learn is not installed.
    """
    matrix = read_matrix(library, where)
    rows = len(matrix.rows)
    wanted = count or max(1, min(MOST_CLUSTERS, round(math.sqrt(rows / 2))))
    if not 1 <= wanted <= rows:
        raise InputError(
            f"{library.folder}: {wanted} clusters of {rows} entries cannot be; ask for 1 to {max(rows, 1)}"
        )
    labels, centres = _k_means(matrix.embeddings, wanted)
    places = _map(matrix.embeddings)
    names = _names(centres, words, library, model)
    found = []
    for label in np.argsort(-np.bincount(labels, minlength=wanted), kind="stable"):
        inside = np.flatnonzero(labels == label)
        likeness = matrix.embeddings[inside] @ centres[label]
        order = inside[np.argsort(-likeness, kind="stable")]
        if len(order):
            close = dict(zip(inside.tolist(), likeness.tolist(), strict=True))
            members = [_member(library, matrix.rows[i], close[i], places.get(i)) for i in order.tolist()]
            found.append(Cluster(members, names[label]))
    return found


def _k_means(embeddings: Array, count: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Labels (N,) and centres of length 1, (count, D)."""
    cluster = _sklearn("sklearn.cluster")
    kind = cluster.MiniBatchKMeans if len(embeddings) > _BIG else cluster.KMeans
    fitted = kind(n_clusters=count, n_init=3, random_state=_SEED).fit(embeddings)
    centres = fitted.cluster_centers_.astype(np.float32)
    return fitted.labels_, centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def _map(embeddings: Array) -> Mapping[int, tuple[float, float]]:
    """Places on the plane, from 0 to 1: t-SNE of at most `MOST_POINTS` rows, evenly taken."""
    chosen = np.unique(np.linspace(0, len(embeddings) - 1, min(len(embeddings), MOST_POINTS)).round().astype(int))
    if len(chosen) < 3:
        return {int(i): ((n + 1) / (len(chosen) + 1), 0.5) for n, i in enumerate(chosen)}
    some = embeddings[chosen] - embeddings[chosen].mean(axis=0)
    parts = min(32, len(chosen), some.shape[1])
    reduced = some @ np.linalg.svd(some, full_matrices=False)[2][:parts].T
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    tsne = _sklearn("sklearn.manifold").TSNE(perplexity=perplexity, init="pca", random_state=_SEED)
    flat = tsne.fit_transform(reduced)
    low, span = flat.min(axis=0), np.maximum(np.ptp(flat, axis=0), 1e-9)
    return {int(i): (float(x), float(y)) for i, (x, y) in zip(chosen, (flat - low) / span, strict=True)}


def _names(centres: Array, words: Sequence[str], library: Library, model: "Perception | None") -> list[tuple[str, ...]]:
    """For each centre the words that fit it more than they fit the others."""
    if model is None or not words or not model.has_text:
        return [()] * len(centres)
    library.check(model)
    scores = centres @ model.embed_texts(list(words), "photo").T  # clusters, words
    scores = scores - scores.mean(axis=0) / 2  # a word that fits everything names nothing
    return [tuple(words[i] for i in np.argsort(-row)[:_NAMES]) for row in scores]


def _member(library: Library, row: Mapping[str, Any], likeness: float, place: tuple[float, float] | None) -> Member:
    x, y = place or (None, None)
    return Member(
        row["path"], library.file_of(row), row["kind"], row["start"], row["page"], float(likeness), x, y
    )  # fmt: skip


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"clusters need scikit-learn, which is not installed: {INSTALL}") from error
