"""The vision tower starts as the head of the shared space; windows and pushed features keep exact labels."""

import pytest
import torch
import torch.nn.functional as F

from midsight.errors import ConfigError
from midsight.pe import stem
from midsight.train.embedded import tower
from midsight.train.embedded.space import ImageHead, Pusher, Space, SpaceConfig, start_head
from midsight.train.embedded.trunk import Trunk


@pytest.fixture(scope="module")
def net() -> Trunk:
    torch.manual_seed(0)
    return Trunk(stem.build("efficientnet_lite2").eval(), torch.randn(1000, 1280) * 0.05, torch.zeros(1000))


def some_maps(count: int, side: int = 7) -> torch.Tensor:
    return torch.rand(count, 1280, side, side, generator=torch.Generator().manual_seed(1)) * 2


@torch.inference_mode()
def test_an_untrained_tower_is_the_head_on_pooled_features(net: Trunk) -> None:
    space = Space(SpaceConfig(width=64, hidden=32), torch.zeros(64)).eval()
    for parameter in space.image.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.05)
    vision = tower.new_tower(tower.TowerConfig(heads=4, layer_scale=0.0), space, net, 224).eval()
    maps = some_maps(3)
    expected = space.image(maps.mean((2, 3)))
    assert expected.std() > 1e-3
    torch.testing.assert_close(tower.forward_maps(vision, maps), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_forward_maps_is_the_tower_without_its_stem(net: Trunk) -> None:
    space = Space(SpaceConfig(width=64, hidden=32), torch.zeros(64)).eval()
    vision = tower.new_tower(tower.TowerConfig(heads=4, layer_scale=0.3), space, net, 64).eval()
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(vision(images), tower.forward_maps(vision, net.stem(images)), rtol=1e-4, atol=1e-5)


def test_pushed_features_come_near_a_class(net: Trunk) -> None:
    features = torch.rand(400, 1280, generator=torch.Generator().manual_seed(3)) * 2
    pusher = Pusher(net, features)
    pushed = pusher(features[:64], torch.Generator().manual_seed(4))
    assert pushed.min() >= 0
    assert pushed.max() <= 6
    before, after = (net.logits(f).argmax(1).unique().numel() for f in (features[:64], pushed))
    assert after > before + 20  # classes drawn by lot, where the features alone give few


def test_pushed_maps_change_inside_one_rectangle_only(net: Trunk) -> None:
    maps = some_maps(8)
    pushed = Pusher(net, maps.mean((2, 3))).maps(maps, torch.Generator().manual_seed(5))
    changed = (pushed != maps).any(1)
    for mask in changed:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()
    assert changed.flatten(1).any(1).sum() >= 6


def test_the_head_starts_as_the_names_of_likely_classes(net: Trunk) -> None:
    generator = torch.Generator().manual_seed(6)
    names = F.normalize(torch.randn(1000, 256, generator=generator), dim=-1)
    features = torch.rand(500, 1280, generator=generator) * 2
    clear = Pusher(net, features)(features, generator)
    space = Space(SpaceConfig(width=256, hidden=32), torch.zeros(256)).eval()
    start_head(space.image, net, clear)
    space.store_names(names)
    with torch.inference_mode():
        ranked = (space(clear) @ names.T).topk(20).indices
        torch.testing.assert_close(space(clear), space.in_words(clear, names))
    best = net.logits(clear).argmax(1)
    assert (ranked == best[:, None]).any(1).float().mean() > 0.5  # by chance 0.02


def test_a_head_with_fewer_units_than_classes_is_refused(net: Trunk) -> None:
    with pytest.raises(ConfigError, match="at least 250"):
        start_head(ImageHead(64), net, torch.rand(50, 1280))
