"""Depth: bins, losses against loops, prediction."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight.api import dense_encoder
from midsight.errors import ConfigError, ShapeError
from midsight.tasks.depth import (
    DepthConfig,
    DepthEstimator,
    DepthHead,
    DepthRange,
    depth_loss,
    gradient_loss,
    scale_invariant_log_loss,
)
from midsight.tasks.heads import HeadConfig


def pair(rows: int = 21, columns: int = 34) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, rows, columns, generator=generator) * 9 + 0.5
    truth[torch.rand(truth.shape, generator=generator) < 0.2] = 0
    return torch.rand(2, rows, columns, generator=generator) * 9 + 0.5, truth


def test_metres_are_the_mean_of_the_bins() -> None:
    torch.manual_seed(0)
    head = DepthHead(HeadConfig(8, 5, "linear"), DepthRange(5, 1.0, 9.0))
    maps = torch.randn(1, 8, 2, 3) * 20
    outputs, found = head.head([maps]).detach(), head([maps]).detach()
    assert found.shape == (1, 1, 2, 3)
    for y in range(2):
        for x in range(3):
            weights = [max(float(outputs[0, n, y, x]), 0) + 0.1 for n in range(5)]
            mean = sum(w * d for w, d in zip(weights, (1, 3, 5, 7, 9), strict=True)) / sum(weights)
            assert float(found[0, 0, y, x]) == pytest.approx(mean, rel=1e-5)
    assert "centres" not in head.state_dict()
    assert (DepthRange().bins, DepthRange().nearest, DepthRange().farthest) == (256, 0.001, 10.0)
    with pytest.raises(ConfigError, match="4 outputs, but there are 5 bins"):
        DepthHead(HeadConfig(8, 4, "linear"), DepthRange(5))
    with pytest.raises(ConfigError):
        DepthRange(10, 3.0, 2.0)


def test_scale_invariant_loss_by_its_formula() -> None:
    predicted, truth = pair()
    known = truth.numpy() > 0
    ratio = np.log(predicted.numpy()[known] + 1e-3) - np.log(truth.numpy()[known] + 1e-3)
    expected = math.sqrt(ratio.var(ddof=1) + 0.15 * ratio.mean() ** 2)
    assert float(scale_invariant_log_loss(predicted, truth)) == pytest.approx(expected, rel=1e-5)
    assert float(scale_invariant_log_loss(truth, truth)) < 1e-5
    doubled = float(scale_invariant_log_loss(2 * truth + 1e-3, truth))
    assert doubled == pytest.approx(math.sqrt(0.15) * math.log(2), rel=1e-3), "a common factor costs little"


def test_gradient_loss_by_loops() -> None:
    predicted, truth = pair()
    total = 0.0
    for step in (1, 2, 4, 8):
        p, t = predicted[:, ::step, ::step].double(), truth[:, ::step, ::step].double()
        slopes = 0.0
        for b in range(p.shape[0]):
            for y in range(p.shape[1]):
                for x in range(p.shape[2]):
                    for v, u in ((y + 2, x), (y, x + 2)):
                        if v < p.shape[1] and u < p.shape[2] and t[b, y, x] > 0 and t[b, v, u] > 0:
                            a = math.log(p[b, y, x] + 1e-3) - math.log(t[b, y, x] + 1e-3)
                            c = math.log(p[b, v, u] + 1e-3) - math.log(t[b, v, u] + 1e-3)
                            slopes += abs(c - a)
        total += slopes / int((t > 0).sum())
    assert float(gradient_loss(predicted, truth)) == pytest.approx(total, rel=1e-4)
    both = depth_loss(predicted[:, None], truth)
    assert float(both) == pytest.approx(float(scale_invariant_log_loss(predicted, truth)) + 0.5 * total, rel=1e-4)


def test_pictures_without_depth_do_not_stop_training() -> None:
    predicted = torch.ones(1, 1, 4, 4, requires_grad=True)
    for truth in (torch.zeros(1, 8, 8), torch.full((1, 8, 8), 1.0)):
        loss = depth_loss(predicted, truth)
        loss.backward()
        assert loss.isfinite()
        assert predicted.grad is not None
        assert predicted.grad.isfinite().all()
    with pytest.raises(ShapeError):
        depth_loss(predicted[0], torch.zeros(1, 8, 8))


def test_a_picture_gets_metres_of_its_own_size(dense_folder: Path) -> None:
    encoder = dense_encoder(midsight.load(dense_folder, device="cpu"), [2])
    torch.manual_seed(0)
    head = DepthHead(HeadConfig(48, 16, "dpt"), DepthRange(16))
    image = np.random.default_rng(0).integers(0, 256, (50, 91, 3), dtype=np.uint8)
    found = DepthEstimator(encoder, head, DepthConfig(long_side=40))(image)
    assert found.shape == (50, 91)
    assert found.dtype == np.float32
    assert (found > 0).all()
    assert (found < 10).all()
    with pytest.raises(ConfigError):
        DepthConfig(0)
