"""The vision tower starts as what its trunk knows, said in words."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from midsight.errors import ConfigError
from midsight.train.embedded import tower, vocabulary
from midsight.train.embedded.head import embed_pooled
from midsight.train.embedded.tower import TowerConfig
from midsight.train.embedded.words import Words
from tests.train.embedded import small

CONFIG = TowerConfig(width=24, layers=1, heads=2)
COUNT = len(small.CLASSES)


def test_its_configuration(words: vocabulary.Vocabulary) -> None:
    vision = tower.new_tower(CONFIG, words.words, small.trunk(), small.pooled(80), 96)
    found = vision.config
    assert (found.width, found.layers, found.heads, found.output_dim) == (24, 1, 2, small.WORDS.width)
    assert (found.image_size, found.patch_size, found.stem) == (96, 32, "efficientnet_lite2")
    assert not found.use_ln_pre
    assert not found.use_ln_post
    expected = small.trunk().stem.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in vision.stem.state_dict().items())


@torch.inference_mode()
def test_it_answers_as_the_classifier_before_any_step(words: vocabulary.Vocabulary) -> None:
    net, features = small.trunk(), small.pooled(200)
    vision = tower.new_tower(CONFIG, words.words, net, features, 64).eval()
    for seen in (features, small.pooled(200, seed=1)):  # also on features that gave no gains
        found, answer = embed_pooled(vision, seen), net.logits(seen).softmax(-1)
        wanted = words.words.image(answer)
        chance = (found * wanted.roll(1, 0)).sum(-1).mean()
        assert (found * wanted).sum(-1).mean() > chance + 0.1
        best = (found @ F.normalize(words.words.classes, dim=-1).T).topk(3).indices
        assert (best == answer.argmax(1)[:, None]).any(1).float().mean() > 0.6  # by chance an eighth


@torch.inference_mode()
def test_pictures_reach_it_through_the_stem(words: vocabulary.Vocabulary) -> None:
    """The whole tower on pixels is the pooling on what the frozen trunk pools, while the blocks change nothing."""
    net = small.trunk()
    vision = tower.new_tower(replace(CONFIG, layer_scale=0.0), words.words, net, small.pooled(80), 64).eval()
    images = torch.rand(3, 3, 96, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = embed_pooled(vision, net.stem(images).mean((2, 3)))
    assert expected.std() > 0.05
    torch.testing.assert_close(F.normalize(vision(images), dim=-1), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "space", "least"),
    [(8, 9, 9), (4, 4, 6), (32, 4, 6)],  # narrower than the space; 16 hidden units for 24 classes; more than classes
)
def test_a_tower_that_cannot_hold_the_classes_is_refused(width: int, space: int, least: int) -> None:
    config = TowerConfig(width=width, heads=2, mlp_ratio=64.0)  # of the blocks, which have no part in it
    with pytest.raises(ConfigError, match=rf"tower\.width {width}: .* {COUNT} classes.* take {least} to {COUNT}$"):
        tower.new_tower(config, Words(torch.zeros(COUNT, space), 1.0), small.trunk(), small.pooled(30), 64)
