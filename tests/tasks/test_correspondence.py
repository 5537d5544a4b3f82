"""Pairs of places: mutual neighbours against a table of all cosines, points against maps whose truth is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError
from midsight.tasks.correspondence import find_points, mutual_matches, spread
from midsight.tasks.look import token_centres
from midsight.tasks.similarity import cosine


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(rows: int, columns: int, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """A map (32, rows, columns) that varies slowly, of a scene moved by (x, y) tokens."""
    y, x = torch.meshgrid(torch.arange(rows) - shift[1], torch.arange(columns) - shift[0], indexing="ij")
    waves = noise(16, 2) * 0.6
    phase = waves[:, 0, None, None] * x + waves[:, 1, None, None] * y
    return torch.cat([phase.cos(), phase.sin()])


def test_mutual_pairs_are_those_of_the_whole_table() -> None:
    a, b = noise(6, 5, 7), noise(6, 6, 5, seed=1)
    table = cosine(a.flatten(1).T, b.flatten(1).T)  # 35, 30
    expected = {(i, int(table[i].argmax())) for i in range(35) if int(table[:, int(table[i].argmax())].argmax()) == i}
    found = mutual_matches(a, b, (50, 70), (600, 500))
    assert 5 < len(expected) < 30
    cells_a = (found.a[:, 1] // 10 * 7 + found.a[:, 0] // 10).long()
    cells_b = (found.b[:, 1] // 100 * 5 + found.b[:, 0] // 100).long()
    assert set(zip(cells_a.tolist(), cells_b.tolist(), strict=True)) == expected
    torch.testing.assert_close(found.cosine, table[cells_a, cells_b])
    assert found.cosine.tolist() == sorted(found.cosine.tolist(), reverse=True)
    torch.testing.assert_close(found.a, token_centres(cells_a, (5, 7), (50, 70)))


def test_a_picture_belongs_to_itself() -> None:
    maps = noise(8, 6, 9)
    found = mutual_matches(maps, maps, (60, 90), (60, 90))
    assert len(found) == 54
    torch.testing.assert_close(found.a, found.b)
    torch.testing.assert_close(found.cosine, torch.ones(54))
    few = mutual_matches(maps, maps, (60, 90), (60, 90), count=6)
    assert len({(x // 30, y // 30) for x, y in few.a.tolist()}) == 6, "one from each part of the picture"


def test_maps_without_variation_give_a_pair_and_no_error() -> None:
    flat = torch.ones(4, 3, 3)
    assert len(mutual_matches(flat, flat, (30, 30), (30, 30), 5)) >= 1
    assert find_points([(15, 15)], flat, flat[:, :1, :1], (30, 30), (10, 10)).b.tolist() == [[5.0, 5.0]]


def test_spread_takes_the_best_of_each_part_first() -> None:
    places = torch.tensor([[5.0, 5], [6, 6], [7, 7], [55, 5], [5, 55], [55, 55], [56, 56]])
    scores = torch.tensor([0.9, 0.8, 0.99, 0.1, 0.2, 0.3, 0.4])
    assert spread(places, scores, (60, 60), 4).tolist() == [2, 6, 4, 3]
    assert spread(places, scores, (60, 60), 100).sort().values.tolist() == list(range(7))
    assert spread(places[:0], scores[:0], (60, 60), 3).tolist() == []


def test_points_are_found_between_tokens() -> None:
    a, b = smooth(10, 12), smooth(10, 12, shift=(2.4, -1.3))
    points = [(45.0, 52.0), (60.0, 70.0), (30.0, 44.0)]
    found = find_points(points, a, b, (100, 120), (200, 240))  # the second picture is twice as large
    assert found.a.tolist() == [list(point) for point in points]
    expected = (torch.tensor(points) + torch.tensor([24.0, -13.0])) * 2
    moved = (found.b - expected).norm(dim=1) / 20  # tokens
    assert moved.max() < 0.25
    assert found.cosine.min() > 0.98
    centres = [
        F.normalize(b, dim=0).flatten(1).T @ F.normalize(a[:, int(y / 10), int(x / 10)], dim=0) for x, y in points
    ]
    plain = token_centres(torch.stack([c.argmax() for c in centres]), (10, 12), (200, 240))
    assert ((plain - expected).norm(dim=1) / 20).mean() > 2 * moved.mean()


def test_what_cannot_be() -> None:
    maps = noise(4, 3, 3)
    with pytest.raises(ShapeError, match=r"\(4, 3, 3\) and \(5, 3, 3\)"):
        mutual_matches(maps, noise(5, 3, 3), (30, 30), (30, 30))
    with pytest.raises(ShapeError):
        mutual_matches(maps, maps[:, :0], (30, 30), (30, 30))
    with pytest.raises(InputError, match="count"):
        mutual_matches(maps, maps, (30, 30), (30, 30), 0)
    with pytest.raises(InputError, match="at least one point"):
        find_points([], maps, maps, (30, 30), (30, 30))
    with pytest.raises(InputError, match="30,5 lies outside"):
        find_points([(30, 5)], maps, maps, (30, 30), (30, 30))
