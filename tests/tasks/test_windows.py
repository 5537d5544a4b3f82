"""Windows over pictures of any size."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ConfigError
from midsight.tasks.windows import WindowConfig, slide, spans, whole


@pytest.mark.parametrize("length", [1, 400, 512, 513, 853, 854, 2048])
def test_windows_cover_an_axis_as_the_reference_does(length: int) -> None:
    config = WindowConfig()
    found = [(window.start, window.stop) for window in spans(length, config)]
    expected = []
    for k in range(max(length - 512 + 341 - 1, 0) // 341 + 1):  # how the published code counts and moves them
        stop = min(k * 341 + 512, length)
        expected.append((max(stop - 512, 0), stop))
    assert found == expected


def test_overlaps_are_averaged() -> None:
    images = torch.rand(1, 3, 16, 40)
    seen: list[Tensor] = []

    def function(window: Tensor) -> Tensor:
        seen.append(window)
        return torch.full((1, 2, 4, 4), float(len(seen)))

    found = slide(images, function, 4, WindowConfig(16, 12))
    assert [tuple(window.shape) for window in seen] == [(1, 3, 16, 16)] * 3
    torch.testing.assert_close(seen[1], images[..., 12:28])
    row = [1.0] * 12 + [1.5] * 4 + [2.0] * 8 + [2.5] * 4 + [3.0] * 12
    torch.testing.assert_close(found[0, 1, 5], torch.tensor(row))


def test_windows_of_a_local_function_give_the_whole() -> None:
    images = torch.rand(2, 3, 64, 88)

    def local(window: Tensor) -> Tensor:
        return F.avg_pool2d(window, 8)

    inside = slide(images, local, 8, WindowConfig(40, 24))[..., 8:-8, 8:-8]
    whole_map = whole(images, local, 8)[..., 8:-8, 8:-8]
    assert inside.shape == whole_map.shape
    assert (inside - whole_map).abs().mean() < 0.02


def test_sides_that_patches_do_not_divide_are_stretched() -> None:
    sizes = []

    def function(window: Tensor) -> Tensor:
        sizes.append(tuple(window.shape[-2:]))
        return window[:, :1, ::14, ::14]

    assert whole(torch.rand(1, 3, 512, 500), function, 14).shape == (1, 1, 512, 500)
    assert slide(torch.rand(1, 3, 30, 5), function, 14, WindowConfig()).shape == (1, 1, 30, 5)
    assert sizes == [(518, 504), (28, 14)]


def test_windows_that_cannot_be() -> None:
    for crop, stride in ((4, 5), (4, 0)):
        with pytest.raises(ConfigError):
            WindowConfig(crop, stride)
