"""Tiny detectors of the real kind, every weight drawn anew, and noisy pictures."""

from typing import Any

import torch
from torch import Tensor

from midsight.configs import PEConfig
from midsight.tasks.detection import DETA, DETAConfig, MaskRCNN, MaskRCNNConfig
from tests import peers

VISION = PEConfig(
    patch_size=16, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=None, ls_init_value=0.1, image_size=48,
    pool_type="none", use_ln_post=False,
)  # fmt: skip
MASK_RCNN = dict(
    image_size=128, window_size=3, global_blocks=(1,), rope_grid=3, channels=16, box_fc=32, num_classes=4,
    rpn_pre_nms=60, rpn_post_nms=40, detections_per_image=20,
)  # fmt: skip
DETA_SIZES = dict(
    image_size=160, window_size=3, global_blocks=(1,), rope_grid=2, num_classes=5, num_queries=40, encoder_layers=1,
    decoder_layers=2, feedforward_dim=32, tta_sizes=(96,), tta_box_ranges=((0, 100), (0, 60)), detections_per_image=15,
)  # fmt: skip


def mask_rcnn(seed: int = 0, vision: PEConfig = VISION, **changes: Any) -> MaskRCNN:
    """An evaluated Mask R-CNN of 4 classes."""
    model: MaskRCNN = peers.randomize(MaskRCNN(vision, MaskRCNNConfig(**(MASK_RCNN | changes))), seed)
    return model.eval()


def deta(seed: int = 0, vision: PEConfig = VISION, **changes: Any) -> DETA:
    """An evaluated DETA of 5 classes."""
    model: DETA = peers.randomize(DETA(vision, DETAConfig(**(DETA_SIZES | changes))), seed)
    return model.eval()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth coloured noise, uint8 (3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth + 20 * torch.randn(3, height, width, generator=generator)).clamp(0, 255).to(torch.uint8)


PICTURES = (picture(90, 128, 1), picture(200, 120, 2), picture(64, 64, 3))
