"""Several feature maps from one: the simple feature pyramid of ViTDet, and the convolutions that the heads share.

Source: ViTDet (arXiv 2203.16527), section 3, and detectron2's `SimpleFeaturePyramid`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from midsight.tasks.detection.windowed import WindowedBackbone

NORM_EPS = 1e-6
LEVELS = ("p2", "p3", "p4", "p5", "p6")


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of maps (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormedConv2d(nn.Conv2d):
    """A convolution without bias that keeps the size, and a layer norm over its channels, under detectron2's names."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(outputs)
        fill_msra(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


def fill_msra(weight: Tensor) -> None:
    """A ReLU network's initial weights, by what goes out; nothing on the meta device."""
    if not weight.is_meta:
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


class FeaturePyramid(nn.Module):
    """From one map of a stride s, maps of strides s / 4, s / 2, s, 2 s and 4 s."""

    def __init__(self, width: int, channels: int) -> None:
        """
        Args:
            width: channels of the map.
            channels: of each of the five.
        """
        super().__init__()
        self._build(width, channels)

    def _build(self, width: int, channels: int) -> None:
        self.simfp_2 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, 2),
            ChannelNorm(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
            NormedConv2d(width // 4, channels, 1),
            NormedConv2d(channels, channels, 3),
        )
        self.simfp_3 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, 2),
            NormedConv2d(width // 2, channels, 1),
            NormedConv2d(channels, channels, 3),
        )
        self.simfp_4 = nn.Sequential(NormedConv2d(width, channels, 1), NormedConv2d(channels, channels, 3))
        self.simfp_5 = nn.Sequential(
            nn.MaxPool2d(2), NormedConv2d(width, channels, 1), NormedConv2d(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """A map (B, width, h, w) to p2 to p6, (B, channels, 4h, 4w) to (B, channels, h / 4, w / 4)."""
        maps = [self.simfp_2(x), self.simfp_3(x), self.simfp_4(x), self.simfp_5(x)]
        maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return dict(zip(LEVELS, maps, strict=True))


class SimpleFeaturePyramid(FeaturePyramid):
    """The backbone and, from its one map of stride 16, maps of strides 4, 8, 16, 32 and 64."""

    def __init__(self, net: WindowedBackbone, channels: int) -> None:
        nn.Module.__init__(self)
        self.net = net  # first, as published files list it
        self._build(net.config.width, channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, S, S), normalised, to p2 to p6, each (B, channels, S / stride, S / stride)."""
        return super().forward(self.net(images.to(self.net.conv1.weight.dtype)))
