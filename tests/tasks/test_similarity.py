"""Cosine similarity and nearest neighbours."""

import pytest
import torch

from midsight.errors import InputError, ShapeError
from midsight.tasks.similarity import cosine, nearest


def test_cosine() -> None:
    a = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, -0.1]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([[1.0, 0.0], [0.5**0.5, -(0.5**0.5)], [0.0, 0.0]]))


def test_nearest_agrees_with_a_full_sort_whatever_the_block() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(7, 5, generator=generator), torch.randn(40, 5, generator=generator)
    table = cosine(queries, gallery)
    expected = table.sort(dim=1, descending=True)
    for rows in (1, 3, 100):
        values, indices = nearest(queries, gallery, k=4, rows=rows)
        torch.testing.assert_close(values, expected.values[:, :4])
        assert torch.equal(indices, expected.indices[:, :4])


def test_nearest_in_a_small_gallery() -> None:
    values, indices = nearest(torch.eye(2), torch.eye(2), k=10)
    assert values.tolist() == [[1, 0], [1, 0]]
    assert indices.tolist() == [[0, 1], [1, 0]]


def test_bad_shapes_and_counts() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2, 4\)"):
        cosine(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ShapeError):
        nearest(torch.zeros(3), torch.zeros(2, 3))
    with pytest.raises(InputError, match="k=0"):
        nearest(torch.zeros(1, 3), torch.zeros(2, 3), k=0)
