"""Dense tasks on a CUDA device: the results of the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight.api import dense_encoder
from midsight.tasks.depth import DepthEstimator, DepthHead, DepthRange
from midsight.tasks.heads import HeadConfig
from midsight.tasks.segmentation import SegmentConfig, Segmenter, segmentation_head
from midsight.tasks.tracking import TrackingConfig, propagate, track

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: what only a GPU can show is not tested on this machine"
)


@pytest.mark.parametrize("grid", [(9, 11), (60, 70)])
def test_propagation_is_that_of_the_cpu(grid: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 64, *grid, generator=generator) + torch.randn(6, 64, *grid, generator=generator)
    first = torch.rand(3, *grid, generator=generator).softmax(dim=0)
    found = propagate(features.cuda(), first.cuda(), context=3)
    assert found.is_cuda
    difference = (found.cpu() - propagate(features, first, context=3)).abs()
    assert difference.median() < 1e-5
    assert (difference > 1e-3).float().mean() < 0.01, "only where two products are all but equal"


def test_labels_classes_and_depth_are_those_of_the_cpu(dense_folder: Path) -> None:
    dice = np.random.default_rng(0)
    frames = dice.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    labels[10:40, 20:60] = 1
    torch.manual_seed(0)
    heads = segmentation_head(48, 4), DepthHead(HeadConfig(48, 8, "dpt"), DepthRange(8))
    results = []
    for device in ("cpu", "cuda"):
        encoder = dense_encoder(midsight.load(dense_folder, device=device), [1])
        tracked = [found.unwrap() for found in track(frames, labels, encoder, TrackingConfig(long_side=96))]
        classes = Segmenter(encoder, heads[0], SegmentConfig(short_side=64))(frames[0])
        results.append((np.stack(tracked), classes, DepthEstimator(encoder, heads[1])(frames[0])))
    (tracked, classes, depth), (others, other_classes, other_depth) = results
    assert (tracked == others).mean() > 0.97
    assert (classes == other_classes).mean() > 0.97
    np.testing.assert_allclose(depth, other_depth, rtol=2e-2)
