"""Pictures of any shape in front of an encoder."""

import numpy as np
import pytest
import torch

from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError, InputError, MediaError
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import InputSize, look_at, token_centres
from tests.pe import tiny


@pytest.fixture(scope="module")
def encoder() -> DenseEncoder:
    return DenseEncoder(tiny.vision(), PreprocessConfig(image_size=64))


@pytest.mark.parametrize(
    ("size", "picture", "expected"),
    [
        (InputSize(long_side=64), (300, 450), (48, 64)),  # 42.7 is nearest to 48
        (InputSize(long_side=64), (8, 8), (64, 64)),
        (InputSize(long_side=64), (4000, 6000), (48, 64)),
        (InputSize(long_side=64), (1, 500), (16, 64)),
        (InputSize(long_side=3), (10, 10), (16, 16)),
        (InputSize(square=96), (300, 450), (96, 96)),
    ],
)
def test_size_of_the_input(size: InputSize, picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size.of(*picture, patch_size=16) == expected


def test_one_size_decides() -> None:
    for sides in ((None, None), (64, 64)):
        with pytest.raises(ConfigError, match="exactly one"):
            InputSize(*sides)
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        InputSize(square=0)


def test_places_become_tokens(encoder: DenseEncoder) -> None:
    seen = look_at(np.zeros((100, 200, 3), np.uint8), encoder, InputSize(long_side=64))
    assert (seen.size, seen.grid, tuple(seen.images.shape)) == ((100, 200), (2, 4), (1, 3, 32, 64))
    assert [seen.cell(point) for point in ((0, 0), (49.9, 49.9), (50, 50), (199.5, 99.5))] == [
        (0, 0), (0, 0), (1, 1), (1, 3),
    ]  # fmt: skip
    centres = token_centres(torch.arange(8), seen.grid, seen.size)
    assert centres.tolist() == [[25.0 + 50 * x, 25.0 + 50 * y] for y in range(2) for x in range(4)]
    assert [seen.cell((x, y)) for x, y in centres.tolist()] == [(y, x) for y in range(2) for x in range(4)]


@pytest.mark.parametrize("point", [(-1, 5), (200, 5), (5, 100), (float("nan"), 5)])
def test_a_place_outside(encoder: DenseEncoder, point: tuple[float, float]) -> None:
    seen = look_at(np.zeros((100, 200, 3), np.uint8), encoder, InputSize(long_side=64))
    with pytest.raises(InputError, match=r"outside the picture, which has 200x100 pixels"):
        seen.cell(point)


def test_a_broken_picture(encoder: DenseEncoder) -> None:
    with pytest.raises(MediaError):
        look_at(b"no picture", encoder, InputSize(long_side=64))
