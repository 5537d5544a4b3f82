"""Groups, schedule and clipping."""

import math

import pytest
import torch

from midsight.train import optim
from midsight.train.config import OptimConfig
from tests.train import small


def groups_of(config: OptimConfig) -> dict[str, dict[str, float]]:
    model = small.pair()
    optimizer = optim.build_optimizer(model.named_parameters(), config, 2, 2)
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_only_matrices_decay() -> None:
    groups = groups_of(OptimConfig())
    without = {name for name, group in groups.items() if group["weight_decay"] == 0}
    assert {"logit_scale", "positional_embedding", "visual.class_embedding", "visual.attn_pool.probe"} <= without
    assert all(name in without for name in groups if name.endswith("bias") or ".ln_" in name)
    assert groups["visual.conv1.weight"]["weight_decay"] == groups["token_embedding.weight"]["weight_decay"] == 0.05
    assert len(groups) == len(list(small.pair().parameters()))


def test_the_text_tower_may_have_its_own_decay() -> None:
    groups = groups_of(OptimConfig(text_weight_decay=0.0))
    assert groups["text_projection"]["weight_decay"] == 0
    assert groups["visual.proj"]["weight_decay"] == 0.05


def test_layer_decay_lowers_the_rate_towards_the_input() -> None:
    groups = groups_of(OptimConfig(layer_decay=0.5))
    assert groups["visual.proj"]["factor"] == groups["visual.attn_pool.probe"]["factor"] == 1
    assert groups["visual.transformer.resblocks.1.mlp.c_fc.weight"]["factor"] == 0.5
    assert groups["visual.transformer.resblocks.0.mlp.c_fc.weight"]["factor"] == 0.25
    assert groups["visual.conv1.weight"]["factor"] == groups["token_embedding.weight"]["factor"] == 0.125


def test_the_rate_rises_straight_and_ends_at_zero() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=10)
    rates = [optim.learning_rate(config, step, 200) for step in range(200)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[104] == pytest.approx(0.5)  # the middle of the cosine
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    assert optim.learning_rate(OptimConfig(lr=1.0), 0, 20) == 0.5  # a short run has a short warm-up


def test_lamb_is_timms_with_the_published_betas() -> None:
    from timm.optim.lamb import Lamb

    ours, theirs = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(3, 4))
    config = OptimConfig(lr=0.1)
    optimizer = optim.build_optimizer([("visual.proj", ours)], config, 2, 2)
    optim.prime(optimizer)
    peer = Lamb([theirs], lr=0.1, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.05, max_grad_norm=1.0)
    for step in range(3):
        gradient = torch.arange(12.0).view(3, 4) + step
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        assert optim.clip_gradients([ours], 1.0) == pytest.approx(gradient.norm().item())
        optim.set_learning_rate(optimizer, 0.1)
        optimizer.step()
        peer.step()
    torch.testing.assert_close(ours, theirs)


def test_short_gradients_stay() -> None:
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = torch.full((4,), 0.1)
    assert optim.clip_gradients([p], 1.0) == pytest.approx(0.2)
    assert torch.equal(p.grad, torch.full((4,), 0.1))
    assert math.isnan(optim.clip_gradients([_with_nan()], None))


def _with_nan() -> torch.nn.Parameter:
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([1.0, math.nan])
    return p
