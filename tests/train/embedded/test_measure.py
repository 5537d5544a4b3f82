"""Figures: intervals count pictures, hits count the best few, broad kinds need a clear answer."""

import numpy as np
import pytest
import torch

from midsight.train.embedded import measure
from midsight.train.embedded.figures import figure, hits_among


class Model:
    """Texts as the unit axes, in the order in which they are asked for."""

    def embed_texts(self, texts: list[str], templates: str) -> np.ndarray:
        assert templates == "photo"
        return np.eye(len(texts), dtype=np.float32)


def test_hits_are_among_the_best_few() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
    target = torch.tensor([0, 0, 0])
    assert hits_among(scores, target, 1).tolist() == [True, False, False]
    assert hits_among(scores, target, 2).tolist() == [True, False, True]


def test_an_interval_counts_pictures_not_crops() -> None:
    hits = torch.tensor([True] * 40 + [False] * 40)
    alone = figure("each", hits, np.arange(80), 0.1)
    pairs = figure("two", hits, np.arange(80) // 40, 0.1)
    assert (alone.value, pairs.value, alone.chance, alone.count) == (0.5, 0.5, 0.1, 80)
    assert alone.low == pytest.approx(0.39, abs=0.02)  # 0.5 - 1.96 / sqrt(4 * 80)
    assert alone.high == pytest.approx(0.61, abs=0.02)
    assert (pairs.low, pairs.high) == (0.0, 1.0)  # two pictures tell nothing


def test_crops_without_a_clear_kind_are_left_out() -> None:
    covered = {synset: {number, 40} for number, synset in enumerate(measure.BROAD.values())}
    answer = torch.zeros(4, 41)
    answer[[0, 1, 2], [3, 3, 5]] = torch.tensor([0.9, 0.8, 0.7])
    answer[3, 7] = 0.4  # no kind has half of it
    images = torch.eye(len(measure.BROAD))[[3, 4, 5, 7]]
    hits, rows, usual = measure.broad_hits(Model(), images, answer, covered)  # type: ignore[arg-type]
    assert hits.tolist() == [True, False, True]
    assert rows.tolist() == [True, True, True, False]
    assert usual == pytest.approx(2 / 3)
