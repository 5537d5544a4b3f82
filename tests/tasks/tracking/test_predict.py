"""Label propagation against loops over tokens, and what it holds in memory."""

import math
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from midsight.errors import ConfigError, ShapeError
from midsight.tasks.tracking import PropagationConfig, predict, propagate, propagate_stream


def video(frames: int, rows: int, columns: int, channels: int = 6, labels: int = 3) -> tuple[Tensor, Tensor]:
    """Maps that change slowly, and a soft first mask."""
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    scene = torch.randn(1, channels, rows, columns, generator=generator)
    features = (scene + 0.5 * torch.randn(frames, channels, rows, columns, generator=generator)) * 3
    return features, torch.rand(labels, rows, columns, generator=generator).softmax(dim=0)


def by_loops(features: Tensor, first: Tensor, context: int, radius: int, topk: int, temperature: float) -> Tensor:
    """The same in plain Python, token by token."""
    count, _, rows, columns = features.shape
    masks = [first.double()]
    for t in range(1, count):
        frames = [0, *range(max(1, t - context), t)]
        mask = torch.zeros_like(masks[0])
        for y in range(rows):
            for x in range(columns):
                found = []
                for s in frames:
                    for v in range(max(0, y - radius), min(rows, y + radius + 1)):
                        for u in range(max(0, x - radius), min(columns, x + radius + 1)):
                            a, b = features[t, :, y, x].double(), features[s, :, v, u].double()
                            found.append((float(a @ b / a.norm() / b.norm()), s, v, u))
                found = sorted(found, reverse=True)[:topk]
                weights = [math.exp(cosine / temperature) for cosine, *_ in found]
                for weight, (_, s, v, u) in zip(weights, found, strict=True):
                    mask[:, y, x] += weight / sum(weights) * masks[s][:, v, u]
        masks.append(mask)
    return torch.stack(masks)


@pytest.mark.parametrize(
    ("grid", "context", "radius", "topk"),
    [
        ((5, 7), 2, 1, 3),
        ((4, 9), 1, 2, 50),  # more than there are
        ((6, 6), 0, 12, 4),  # the whole grid, the first frame alone
        ((1, 10), 3, 2, 1),
        ((3, 4), 3, 0, 2),  # the same place only
    ],
)
def test_propagation_agrees_with_loops(grid: tuple[int, int], context: int, radius: int, topk: int) -> None:
    features, first = video(5, *grid)
    expected = by_loops(features, first, context, radius, topk, 0.2)
    actual = propagate(features, first, context, radius, topk, temperature=0.2)
    assert expected[-1].std() > 0.02
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sides", [(1,), (3,), (8,), (100,)])
@pytest.mark.parametrize("grid", [(17, 23), (30, 5), (5, 30), (1, 12), (12, 1)])
def test_tiles_do_not_show(sides: tuple[int, ...], grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    features, first = video(6, *grid)
    monkeypatch.setattr(predict, "_SIDES", (1000,))
    predict._tiles.cache_clear()
    expected = propagate(features, first, context=3, radius=4)
    monkeypatch.setattr(predict, "_SIDES", sides)
    predict._tiles.cache_clear()
    torch.testing.assert_close(propagate(features, first, context=3, radius=4), expected)
    predict._tiles.cache_clear()


def test_plain_products_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, first = video(4, 9, 11)
    expected = propagate(features, first, radius=3)
    monkeypatch.setattr(predict.linear, "available", lambda: False)
    torch.testing.assert_close(propagate(features, first, radius=3), expected)


def test_a_stream_holds_a_bounded_number_of_maps() -> None:
    features, first = video(20, 6, 8)
    alive: list[weakref.ref[Tensor]] = []

    def maps() -> Iterator[Tensor]:
        for frame in features:
            own = frame.clone()
            alive.append(weakref.ref(own))
            yield own
            own.fill_(float("nan"))  # who still read it would tell

    config = PropagationConfig(context=2, radius=2)
    found = []
    for mask in propagate_stream(maps(), first, config):
        found.append(mask.clone())
        assert sum(reference() is not None for reference in alive) <= 2
    torch.testing.assert_close(torch.stack(found), propagate(features, first, context=2, radius=2))


def test_only_the_neighbourhood_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    features, first = video(3, 60, 60, channels=256)
    computed: list[int] = []
    products = predict._products

    def counted(a: Tensor, b: Tensor) -> Tensor:
        computed.append(len(a) * len(b))
        return products(a, b)

    monkeypatch.setattr(predict, "_products", counted)
    propagate(features, first, radius=4)
    whole = (1 + 2) * 60**4
    assert sum(computed) < 0.15 * whole
    assert max(computed) < 0.02 * whole


def test_gradients_are_not_kept() -> None:
    features, first = video(3, 4, 4)
    assert not propagate(features.requires_grad_(), first.requires_grad_()).requires_grad


def test_masks_stay_shares() -> None:
    features, first = video(8, 10, 10)
    masks = propagate(features.half(), first)
    assert masks.dtype == torch.float32
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(8, 10, 10))


@pytest.mark.parametrize(
    ("features", "mask", "message"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(1, 3, 4), r"features \(T, C, h, w\)"),
        (torch.zeros(0, 3, 4, 4), torch.zeros(1, 4, 4), "at least one frame"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(4, 4), r"first mask \(K, h, w\)"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(1, 4, 4), "4 x 5 tokens, the first mask 4 x 4"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4), "float"),
    ],
)
def test_wrong_shapes_are_told(features: Tensor, mask: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        propagate(features, mask)


def test_a_map_of_another_width_is_told() -> None:
    maps = [torch.randn(6, 4, 4), torch.randn(6, 4, 4), torch.randn(7, 4, 4)]
    with pytest.raises(ShapeError, match="frame 2: the map has 7 channels, not 6"):
        list(propagate_stream(maps, torch.ones(1, 4, 4)))


@pytest.mark.parametrize("setting", [{"context": -1}, {"radius": -1}, {"topk": 0}, {"temperature": 0.0}])
def test_wrong_settings_are_told(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        PropagationConfig(**setting)  # type: ignore[arg-type]
