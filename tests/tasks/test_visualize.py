"""PCA pictures of feature maps."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from midsight.errors import InputError, ShapeError
from midsight.tasks.visualize import blend_with_blur, lch_to_rgb, pca_colours, pca_pictures, principal_components


@pytest.mark.parametrize(
    ("lch", "rgb"),
    [  # reference values of the sRGB primaries in CIELAB, white point D65
        ((53.24, 104.55, 40.00), (255, 0, 0)),
        ((87.74, 119.78, 136.02), (0, 255, 0)),
        ((32.30, 133.81, 306.28), (0, 0, 255)),
        ((100.0, 0.0, 0.0), (255, 255, 255)),
        ((0.0, 0.0, 123.0), (0, 0, 0)),
        ((53.585, 0.0, 0.0), (128, 128, 128)),
    ],
)
def test_colours(lch: tuple[float, ...], rgb: tuple[int, ...]) -> None:
    assert (lch_to_rgb(torch.tensor(lch)).int() - torch.tensor(rgb)).abs().max() <= 1


def test_blur_is_a_gaussian_of_three_taps() -> None:
    maps = torch.zeros(1, 2, 5, 5)
    maps[0, 1, 2, 2] = 1
    side = math.exp(-0.5)
    line = torch.tensor([side, 1, side]) / (1 + 2 * side)
    actual = blend_with_blur(maps)
    expected = 0.5 * torch.outer(line, line)
    expected[1, 1] += 0.5
    torch.testing.assert_close(actual[0, 1, 1:4, 1:4], expected)
    assert actual[0, 0].abs().max() == 0, "channels must not mix"
    flat = torch.full((1, 1, 1, 4), 3.0)
    torch.testing.assert_close(blend_with_blur(flat), flat)


def test_components_agree_with_scikit_learn_up_to_sign() -> None:
    tokens = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 3, 12)
    actual = principal_components(tokens, 3)
    expected = PCA(3, svd_solver="full").fit_transform(tokens.double().numpy())
    for column in range(3):
        sign = np.sign(actual[0, column].item() * expected[0, column])
        np.testing.assert_allclose(actual[:, column], sign * expected[:, column], atol=1e-4)


def test_regions_get_colours_of_their_own_that_hold_across_pictures() -> None:
    regions = torch.eye(4)[:, :, None, None] * 5  # four kinds of tokens
    first = torch.cat([regions[0].expand(4, 6, 3), regions[1].expand(4, 6, 3)], dim=2)
    second = torch.cat([regions[1].expand(4, 6, 3), regions[2].expand(4, 6, 3)], dim=2)
    pictures = pca_pictures(torch.stack([first, second]))
    assert pictures.shape == (2, 6, 6, 3)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures[0, 3, 5], pictures[1, 3, 0]), "the same features, the same colour"
    assert (pictures[0, 3, 0].int() - pictures[0, 3, 5].int()).abs().max() > 40
    assert (pictures[1, 3, 0].int() - pictures[1, 3, 5].int()).abs().max() > 40


def test_mask_leaves_the_background_out() -> None:
    maps = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[:, 2:5, 2:5] = True
    alone = pca_pictures(maps, mask)
    assert alone[~mask].max() == 0
    assert alone[mask].float().std() > 10
    maps[0, :, 0, 0] += 1000  # far outside the mask: the blur does not reach it
    assert torch.equal(pca_pictures(maps, mask)[mask], alone[mask])


def test_maps_of_different_shapes_share_one_pca() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 5, 6, generator=generator)
    together = pca_colours(list(maps))
    assert torch.equal(torch.stack(together), pca_pictures(maps))
    wide, small = pca_colours([maps[0], maps[1, :, :1, :1]])
    assert (wide.shape, small.shape) == ((5, 6, 3), (1, 1, 3))
    with pytest.raises(ShapeError, match="one C"):
        pca_colours([maps[0], maps[1, :4]])
    with pytest.raises(ShapeError, match="one C"):
        pca_colours([])


def test_a_map_without_variation_is_one_colour() -> None:
    picture = pca_pictures(torch.ones(1, 4, 3, 3))
    assert len(picture.reshape(-1, 3).unique(dim=0)) == 1


def test_bad_maps() -> None:
    with pytest.raises(ShapeError, match="C of at least 3"):
        pca_pictures(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ShapeError, match="mask"):
        pca_pictures(torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 5, dtype=torch.bool))
    with pytest.raises(InputError, match="there are 2"):
        pca_pictures(torch.zeros(1, 4, 1, 2))
