"""On a GPU the detectors find what they find on the CPU, and learn."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from midsight.tasks.detection.deta_losses import DETALossConfig, deta_losses
from midsight.tasks.detection.losses import MaskRCNNLossConfig, mask_rcnn_losses
from tests.tasks.detection import small
from tests.tasks.detection.test_losses import TRUTH, batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("build", [small.mask_rcnn, small.deta, lambda: small.deta(soft_nms=True)])
def test_detections_agree(build: Any) -> None:
    """To the precision of convolutions in TF32; the order of close scores may differ."""
    for ours, theirs in zip(build().cuda()(small.PICTURES), build()(small.PICTURES), strict=True):
        assert all(value.is_cuda for value in ours.values())
        torch.testing.assert_close(ours["scores"][:5].cpu(), theirs["scores"][:5], rtol=0, atol=0.02)
        assert len(ours["boxes"]) == pytest.approx(len(theirs["boxes"]), abs=5)
        for key, value in ours.items():
            assert value.dtype is theirs[key].dtype


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_losses_have_gradients(precision: torch.dtype) -> None:
    truth = [target.to(torch.device("cuda")) for target in TRUTH]
    sizes = [(128, 128), (100, 128)]
    pixels = batch().cuda()
    for model, function, config, inputs in (
        (small.mask_rcnn(), mask_rcnn_losses, MaskRCNNLossConfig(), pixels),
        (small.deta(), deta_losses, DETALossConfig(), F.pad(pixels, (0, 32, 0, 32))),
    ):
        model = model.cuda().train()
        with torch.autocast("cuda", dtype=precision, enabled=precision is not torch.float32):
            losses = function(model, inputs, sizes, truth, config)  # type: ignore[operator]
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
