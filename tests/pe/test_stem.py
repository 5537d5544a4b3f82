"""The packaged trunk as a patch embedding: padding for any size, cropping to whole patches, and its shapes."""

import math

import pytest
import torch
import torch.nn.functional as F

from midsight.errors import ConfigError, ShapeError
from midsight.pe import stem


@pytest.fixture(scope="module")
def trunk() -> stem.EfficientNetLite:
    torch.manual_seed(0)
    return stem.build("efficientnet_lite2").eval()


@pytest.mark.parametrize("size", [1, 2, 5, 31, 32, 33, 224, 225])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_same_padding_gives_ceil_of_size_over_stride(size: int, kernel: int, stride: int) -> None:
    before, after = stem.same_padding(size, kernel, stride)
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == math.ceil(size / stride)


@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (9, 8)])
@torch.inference_mode()
def test_convolution_equals_explicitly_padded_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = stem.SameConv2d(4, 4, 5, stride=2, groups=4)
    x = torch.randn(1, 4, *shape)
    canvas = torch.zeros(1, 4, shape[0] + 8, shape[1] + 8)  # an odd zero more on the right and below, when needed
    canvas[..., 4 : 4 + shape[0], 4 : 4 + shape[1]] = x
    top, _ = stem.same_padding(shape[0], 5, 2)
    left, _ = stem.same_padding(shape[1], 5, 2)
    full = F.conv2d(canvas[..., 4 - top :, 4 - left :], conv.weight, conv.bias, 2, groups=4)
    rows, columns = math.ceil(shape[0] / 2), math.ceil(shape[1] / 2)
    torch.testing.assert_close(conv(x), full[..., :rows, :columns])


@torch.inference_mode()
def test_forward_covers_whole_patches_only(trunk: stem.EfficientNetLite) -> None:
    x = torch.randn(1, 3, 70, 100)
    assert trunk(x).shape == (1, 1280, 2, 3)
    assert trunk.forward_map(x).shape == (1, 1280, 3, 4)
    torch.testing.assert_close(trunk(x), trunk.forward_map(x[..., :64, :96]))


def test_parameters_are_those_of_lite2_without_classifier(trunk: stem.EfficientNetLite) -> None:
    convolutions = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d)]
    weights = sum(m.weight.numel() for m in convolutions)
    channels = sum(m.out_channels for m in convolutions)
    batch_norms = 2 * channels  # published: 6.09 M with the classifier, whose convolutions have no bias
    assert weights + batch_norms + 1281 * 1000 == 6_092_072


def test_smaller_than_a_patch_is_refused(trunk: stem.EfficientNetLite) -> None:
    with pytest.raises(ShapeError, match="31x64 pixels is smaller than one patch"):
        trunk(torch.zeros(1, 3, 31, 64))


def test_unknown_trunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite2"):
        stem.build("resnet50")
