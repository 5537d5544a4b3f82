"""A packaged trunk made ready for inference on a CPU: each convolution with its ReLU6, or the residual, in one pass.

The operators are private to torch (its own compiler uses them), so they are tried once and the plain trunk stands in
where they are missing. Always in float32, also where linear maps compute in bfloat16.

`python -m benchmarks trunk` measures it beside the plain trunk.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import linear
from midsight.pe.stem import EfficientNetLite, InvertedResidual, SameConv2d, same_padding

_RELU6: tuple[str, list[float]] = ("hardtanh", [0.0, 6.0])
_NOTHING: tuple[str, list[float]] = ("none", [])


@cache
def available() -> bool:
    """Whether torch's fused oneDNN convolutions are there and right on this machine."""
    if not linear.available():
        return False
    x = torch.linspace(-9, 9, 2 * 4 * 8 * 8).view(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    conv = SameConv2d(4, 4, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.linspace(-1, 1, conv.weight.numel()).view_as(conv.weight))
        expected, packed = conv(x), PackedConv(conv)
        try:
            found, added = packed.relu6(x), packed.add(x, x)
        except (AttributeError, RuntimeError, NotImplementedError, TypeError):
            return False
    near = 1e-4
    return torch.allclose(found, F.relu6(expected), atol=near) and torch.allclose(added, expected + x, atol=near)


class PackedConv:
    """One convolution, padded as `SameConv2d`, float32."""

    def __init__(self, conv: SameConv2d) -> None:
        self.kernel, self.stride, self.groups = conv.kernel_size[0], conv.stride[0], conv.groups
        self.weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, ceil(H / stride), ceil(W / stride))."""
        return self._run(x, _NOTHING)

    def relu6(self, x: Tensor) -> Tensor:
        """The convolution and a ReLU6 behind it."""
        return self._run(x, _RELU6)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """`residual` plus the convolution, whose stride is 1."""
        side, _ = same_padding(x.shape[-1], self.kernel, 1)
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, residual, self.weight, self.bias, [side, side], [1, 1], [1, 1], self.groups, "add", None, None, [], None
        )

    def _run(self, x: Tensor, then: tuple[str, list[float]]) -> Tensor:
        top, bottom = same_padding(x.shape[-2], self.kernel, self.stride)
        left, right = same_padding(x.shape[-1], self.kernel, self.stride)
        padding = [top, left]
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), [0, 0]
        stride = [self.stride, self.stride]
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, padding, stride, [1, 1], self.groups, *then, ""
        )


class PackedTrunk:
    """The same as `EfficientNetLite`, in fewer steps. Only where `available`."""

    def __init__(self, trunk: EfficientNetLite) -> None:
        self.conv, self.head = PackedConv(trunk.conv), PackedConv(trunk.head)
        self.blocks = [_Block(block) for block in trunk.blocks]  # type: ignore[arg-type]

    def __call__(self, x: Tensor) -> Tensor:
        """Images float (B, 3, H, W), normalised, to (B, C, H // 32, W // 32), float32.

        Raises:
            ShapeError: x is smaller than one patch.
        """
        x = EfficientNetLite.whole_patches(x).contiguous(memory_format=torch.channels_last)
        x = self.conv.relu6(x)
        for block in self.blocks:
            x = block(x)
        return self.head.relu6(x)


class _Block:
    def __init__(self, block: InvertedResidual) -> None:
        self.expand = None if block.expand is None else PackedConv(block.expand)
        self.depthwise, self.project = PackedConv(block.depthwise), PackedConv(block.project)
        self.residual = block.residual

    def __call__(self, x: Tensor) -> Tensor:
        y = self.depthwise.relu6(x if self.expand is None else self.expand.relu6(x))
        return self.project.add(y, x) if self.residual else self.project(y)
