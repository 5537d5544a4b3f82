"""The package's weights as the stem's: equal to the package's arithmetic, batch norms and normalisation unfolded."""

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import stem
from midsight.train.embedded import trunk

STRIDES = {1: 2, 4: 2, 7: 2, 15: 2}  # blocks of Lite2 that halve the map


def package_weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the package's names, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    ours, found = stem.build("efficientnet_lite2").state_dict(), {}
    names = {p: (c, n) for p, c, n in trunk._pairs(expected_names(ours))}
    for prefix, (convolution, norm) in names.items():
        shape = ours[f"{prefix}.weight"].shape
        fan = shape[1] * shape[2] * shape[3]
        found[f"{convolution}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for part, low, high in (
            ("weight", 0.8, 1.2),
            ("bias", -0.1, 0.1),
            ("running_mean", -0.1, 0.1),
            ("running_var", 0.5, 1.5),
        ):
            found[f"{norm}.{part}"] = low + (high - low) * torch.rand(shape[0], generator=generator)
    return found


def expected_names(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's convolution names that `_pairs` looks for."""
    blocks = {key.split(".")[1] for key in ours if key.startswith("blocks.")}
    names = {f"_blocks.{b}._depthwise_conv.weight": torch.empty(0) for b in blocks}
    return names | {
        f"_blocks.{b}._expand_conv.weight": torch.empty(0) for b in blocks if f"blocks.{b}.expand.weight" in ours
    }


def reference(weights: dict[str, Tensor], x: Tensor, border: float = 0.0) -> Tensor:
    """The network as published: convolution, batch norm, ReLU6, padding so that ceil(size / stride) places come out.

    `border` is what the first layer sees beyond the picture.
    """

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, border: float = 0.0) -> Tensor:
        kernel = weights[f"{convolution}.weight"]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if kernel.shape[1] == 1 else 1
        x = F.conv2d(F.pad(x, pads, value=border), kernel, stride=stride, groups=groups)
        parts = [weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(layer(x, "_conv_stem", "_bn0", 2, border))
    for index in range(21):
        block, y = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in weights:
            y = F.relu6(layer(y, f"{block}._expand_conv", f"{block}._bn0"))
        y = F.relu6(layer(y, f"{block}._depthwise_conv", f"{block}._bn1", STRIDES.get(index, 1)))
        y = layer(y, f"{block}._project_conv", f"{block}._bn2")
        x = x + y if y.shape == x.shape else y
    return F.relu6(layer(x, "_conv_head", "_bn1"))


@torch.inference_mode()
def test_folded_trunk_equals_the_network() -> None:
    weights = package_weights()
    model = stem.build("efficientnet_lite2").eval()
    model.load_state_dict(trunk.fold(weights))
    levels = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(1)).float()
    expected = reference(weights, (levels - 127) / 128, border=0.5 / 128)  # zeros of the stem's input in [-1, 1]
    found = model(levels / 127.5 - 1)
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


@torch.inference_mode()
def test_without_a_constant_part_black_borders_are_exact() -> None:
    weights = package_weights()
    weights["_conv_stem.weight"] -= weights["_conv_stem.weight"].sum((1, 2, 3), keepdim=True) / 27  # no constant part
    model = stem.build("efficientnet_lite2").eval()
    model.load_state_dict(trunk.fold(weights))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(x), reference(weights, (127.5 * x) / 128), rtol=1e-3, atol=1e-3)
