"""Segmentation: loss and prediction; that a head learns stands in the tests of training."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import midsight
from midsight.api import dense_encoder
from midsight.errors import ConfigError, MediaError, ShapeError
from midsight.tasks.segmentation import SegmentConfig, Segmenter, cross_entropy, predict, segmentation_head
from midsight.tasks.windows import WindowConfig


def test_the_loss_counts_pixels_that_have_a_class() -> None:
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.randint(0, 4, (2, 12, 20), generator=torch.Generator().manual_seed(1))
    labels[0, :9] = 255
    large = F.interpolate(logits, (12, 20), mode="bilinear", align_corners=False).movedim(1, -1)
    counted = labels != 255
    expected = -large.log_softmax(-1)[counted].gather(1, labels[counted][:, None]).mean()
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    nothing = cross_entropy(logits, torch.full_like(labels, 255))
    assert nothing == 0
    nothing.backward()  # a batch without a label is no reason to stop
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0
    with pytest.raises(ShapeError):
        cross_entropy(logits, labels.float())


def test_a_picture_gets_classes_of_its_own_size(dense_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = dense_encoder(midsight.load(dense_folder, device="cpu"), [0, 2])
    torch.manual_seed(0)
    head = segmentation_head(48, 7, "linear", inputs=2)
    image = np.random.default_rng(0).integers(0, 256, (50, 91, 3), dtype=np.uint8)
    config = SegmentConfig(short_side=32, windows=WindowConfig(32, 16))
    found = Segmenter(encoder, head, config)(image)
    assert found.shape == (50, 91)
    assert found.dtype == np.uint16
    assert found.max() < 7
    images = encoder.images(image, 32, 58)[None]
    segmenter = Segmenter(encoder, head, SegmentConfig(32, sliding=False))
    at_once = segmenter.logits(images)
    assert at_once.shape == (1, 7, 32, 58)
    stretched = F.interpolate(images, (32, 56), mode="bilinear", antialias=True)
    expected = F.interpolate(head(encoder(stretched)), (32, 58), mode="bilinear")
    torch.testing.assert_close(at_once, expected)
    assert not torch.allclose(Segmenter(encoder, head, config).logits(images), at_once)
    monkeypatch.setattr(predict, "MAX_PIXELS", 1_000_000)
    with pytest.raises(MediaError, match="3000x1 would become 96000x32 .* lower short_side"):
        segmenter(np.zeros((1, 3000, 3), np.uint8))
    with pytest.raises(ConfigError):
        SegmentConfig(short_side=0)
