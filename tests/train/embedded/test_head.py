"""The pooling's fit on pooled features: exact while the blocks are the identity, and nothing else is touched."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.pe import VisionTransformer
from midsight.train.embedded import head, tower, vocabulary
from midsight.train.embedded.features import Features
from midsight.train.embedded.head import HeadConfig, Pusher
from midsight.train.embedded.tower import TowerConfig
from tests import peers
from tests.train.embedded import small

CONFIG = HeadConfig(steps=60, batch=64, lr=3e-4, texts=24, scale=10.0)


class Given(nn.Module):
    """Stands for the stem: these maps, whatever the pixels."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        return self.maps


def new(words: vocabulary.Vocabulary, layer_scale: float = 0.0) -> VisionTransformer:
    config = TowerConfig(width=24, layers=2, heads=2, layer_scale=layer_scale)
    return tower.new_tower(config, words.words, small.trunk(), small.pooled(80), 64).eval()


def on_maps(vision: VisionTransformer, maps: Tensor) -> Tensor:
    """Unit embeddings of stem maps (B, 1280, rows, columns), by the tower itself."""
    vision.stem = Given(maps)
    return F.normalize(vision(torch.zeros(len(maps), 3, 32 * maps.shape[2], 32 * maps.shape[3])), dim=-1)


def maps_of(count: int, rows: int, columns: int) -> Tensor:
    return torch.rand(count, 1280, rows, columns, generator=torch.Generator().manual_seed(5)) * 2


@torch.inference_mode()
def test_pooled_features_give_the_towers_embedding_on_any_map(words: vocabulary.Vocabulary) -> None:
    vision, maps = new(words), maps_of(4, 2, 3)
    expected = head.embed_pooled(vision, maps.mean((2, 3)))
    assert (expected[0] - expected[1]).norm() > 0.1
    torch.testing.assert_close(on_maps(vision, maps), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_on_constant_maps_also_where_attention_is_not_even(words: vocabulary.Vocabulary) -> None:
    vision, pooled = new(words), small.pooled(4, seed=3)
    peers.randomize(vision.attn_pool, seed=1)
    constant = pooled[:, :, None, None].expand(-1, -1, 2, 2)
    torch.testing.assert_close(
        on_maps(vision, constant), head.embed_pooled(vision, pooled), rtol=1e-4, atol=1e-5
    )  # fmt: skip
    varied = maps_of(4, 2, 2)
    assert (on_maps(vision, varied) - head.embed_pooled(vision, varied.mean((2, 3)))).abs().max() > 1e-3


@torch.inference_mode()
def test_with_blocks_it_is_another_function(words: vocabulary.Vocabulary) -> None:
    vision, maps = new(words, layer_scale=0.5), maps_of(3, 2, 2)
    assert (on_maps(vision, maps) - head.embed_pooled(vision, maps.mean((2, 3)))).abs().max() > 1e-2


def test_pushed_features_come_near_a_class() -> None:
    net, features = small.trunk(), small.pooled(400)
    net = replace(net, bias=net.bias + 6 * torch.eye(len(small.CLASSES))[0])  # one class wins nearly everywhere
    pushed = Pusher(net, features)(features[:64], torch.Generator().manual_seed(4))
    assert pushed.min() >= 0
    assert pushed.max() <= 6
    before, after = (net.logits(f).argmax(1).unique().numel() for f in (features[:64], pushed))
    assert before < 8
    assert after > 16  # of twenty-four, drawn by lot
    again = Pusher(net, features)(features[:64], torch.Generator().manual_seed(4))
    assert torch.equal(again, pushed)


def test_a_class_that_wins_already_is_not_pushed() -> None:
    net, features = small.trunk(), small.pooled(200)
    features = Pusher(net, features)(features, torch.Generator().manual_seed(0))
    logits = net.logits(features)
    best, second = logits.topk(2).values.unbind(1)
    clear = best - second > 1.0
    assert clear.sum() > 20
    moved = Pusher(net, features)._step(features, logits.argmax(1), torch.full((len(features),), 1.0))
    assert moved[clear].abs().max() == 0
    assert moved[~clear].abs().sum(1).min() > 0


@pytest.fixture
def features() -> Features:
    return Features(
        small.pooled(240, seed=2), (torch.arange(240) % 6 - 3).clamp(min=-1)
    )  # half photographs, three drawings


def fitted(
    words: vocabulary.Vocabulary, features: Features, config: HeadConfig = CONFIG, seed: int = 0
) -> VisionTransformer:
    vision = new(words)
    head.fit_head(config, vision, small.trunk(), words, features, seed)
    return vision


def test_drawings_are_learnt_and_photographs_stay(words: vocabulary.Vocabulary, features: Features) -> None:
    config = replace(CONFIG, steps=300, lr=3e-3)
    before, after = new(words), fitted(words, features, config)
    photographs = features.drawings < 0
    with torch.inference_mode():
        first, last = (head.embed_pooled(vision, features.pooled) for vision in (before, after))
    captions = words.targets[[rows[0] for rows in words.captions]].float()
    right = [(f[~photographs] @ captions.T).argmax(1) == features.drawings[~photographs] for f in (first, last)]
    assert right[1].float().mean() > right[0].float().mean() + 0.1
    moved = 1 - (first * last).sum(-1)
    assert moved[photographs].mean() < moved[~photographs].mean() / 2


def test_only_spare_units_change(words: vocabulary.Vocabulary, features: Features) -> None:
    vision, net = new(words, layer_scale=0.1), small.trunk()
    start = {key: value.clone() for key, value in vision.state_dict().items()}
    head.fit_head(replace(CONFIG, steps=3), vision, net, words, features, 0)
    changed = {key for key, value in vision.state_dict().items() if not torch.equal(value, start[key])}
    mlp = {f"attn_pool.mlp.{name}" for name in ("c_fc.weight", "c_fc.bias", "c_proj.weight")}
    assert changed == mlp
    classes, now = len(net.bias), vision.state_dict()
    for name in ("c_fc.weight", "c_fc.bias"):
        assert torch.equal(now[f"attn_pool.mlp.{name}"][:classes], start[f"attn_pool.mlp.{name}"][:classes])
    kept = "attn_pool.mlp.c_proj.weight"
    assert torch.equal(now[kept][:, :classes], start[kept][:, :classes])


def test_the_seed_decides_the_fit(words: vocabulary.Vocabulary, features: Features) -> None:
    fits = [fitted(words, features, replace(CONFIG, steps=3), seed) for seed in (0, 0, 1)]
    one, same, other = (fit.attn_pool.mlp.get_parameter("c_fc.weight") for fit in fits)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
