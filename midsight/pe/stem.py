"""Patch embedding by a packaged convolutional trunk: the `stem` field of `PEConfig`, used by embedded models only.

`efficientnet_lite2` is EfficientNet-Lite2 up to and including its last 1x1 expansion, in inference form: every batch
norm is folded into the convolution before it, so each convolution has a bias, and pixels come in as everywhere else
in the package ((value - 0.5) / 0.5), the network's own normalisation being folded into the first convolution.

Sources: EfficientNet paper (arXiv 1905.11946) table 1 and its compound scaling; the Lite variants' changes are ReLU6
instead of swish, no squeeze-and-excitation, and first and last stages that do not scale.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.configs import STEMS
from midsight.errors import ConfigError, ShapeError

# (kernel, stride, expansion, channels, repeats) of each stage of Lite2: width x 1.1, depth x 1.2
_LITE2_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis so that ceil(size / stride) outputs come out; the odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with bias, padded so that the output has ceil(size / stride) places ("SAME")."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = same_padding(x.shape[-2], kernel, stride)
        left, right = same_padding(x.shape[-1], kernel, stride)
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, stride, (top, left), groups=self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The trunk: first convolution, inverted residual stages, last 1x1 expansion. Total stride 32."""

    stride = 32

    def __init__(self, stages: Sequence[tuple[int, int, int, int, int]], out_channels: int = 1280) -> None:
        super().__init__()
        self.out_channels = out_channels
        channels = 32
        self.conv = SameConv2d(3, channels, 3, 2)
        blocks: list[nn.Module] = []
        for kernel, stride, expansion, width, repeats in stages:
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, width, kernel, stride if index == 0 else 1, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(channels, out_channels, 1)

    def forward_map(self, x: Tensor) -> Tensor:
        """The feature map of the whole picture, (B, out_channels, ceil(H / 32), ceil(W / 32)), as the trunk alone."""
        x = x.contiguous(memory_format=torch.channels_last)  # the layout that CPUs convolve fastest in
        return F.relu6(self.head(self.blocks(F.relu6(self.conv(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """One vector per whole patch: pixels beyond the last whole patch are left out, as a patch embedding does.

        Args:
            x: images, float (B, 3, H, W), normalised with mean = std = 0.5.

        Returns:
            (B, out_channels, H // 32, W // 32), values in [0, 6].

        Raises:
            ShapeError: x is smaller than one patch.
        """
        return self.forward_map(self.whole_patches(x))

    @classmethod
    def whole_patches(cls, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) without the pixels beyond the last whole patch.

        Raises:
            ShapeError: x is smaller than one patch.
        """
        height, width = (size // cls.stride * cls.stride for size in x.shape[-2:])
        if not height or not width:
            raise ShapeError(
                f"image of {x.shape[-2]}x{x.shape[-1]} pixels is smaller than one patch of "
                f"{cls.stride}x{cls.stride}; resize it first, as midsight.transforms does"
            )
        return x[..., :height, :width]


def build(name: str) -> EfficientNetLite:
    """The trunk of that name, with random weights.

    Raises:
        ConfigError: no trunk of that name; "patch" is the published patch embedding and needs none.
    """
    if name != "efficientnet_lite2":
        raise ConfigError(f"stem must be one of {', '.join(map(repr, STEMS))}; got {name!r}")
    return EfficientNetLite(_LITE2_STAGES)
