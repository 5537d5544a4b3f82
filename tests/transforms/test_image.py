"""The image transform against torchvision's, on photographs and odd shapes."""

import io
import pickle
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as peer
from torchvision.transforms.functional import InterpolationMode

from midsight import transforms
from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError, MediaError, ShapeError
from midsight.images import Limits
from midsight.transforms.image import ImageTransform, from_config, shorter_side_to

IMAGES = files("sklearn.datasets") / "images"
LEVEL = 1 / 127.5  # one step of 255, after normalising by 0.5 and 0.5


def photo(name: str = "china.jpg") -> Image.Image:
    return Image.open(io.BytesIO((IMAGES / name).read_bytes()))


def published(size: int, center_crop: bool, interpolation: str, mean: Any = (0.5,) * 3, std: Any = (0.5,) * 3) -> Any:
    mode = InterpolationMode(interpolation)
    resize = [peer.Resize(size, mode), peer.CenterCrop(size)] if center_crop else [peer.Resize((size, size), mode)]
    rgb = peer.Lambda(lambda image: image.convert("RGB"))
    return peer.Compose([*resize, rgb, peer.ToTensor(), peer.Normalize(mean, std)])


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("size", [64, 224, 384])
@pytest.mark.parametrize("center_crop", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photographs_come_out_as_published(name: str, size: int, center_crop: bool, interpolation: Any) -> None:
    expected = published(size, center_crop, interpolation)(photo(name))
    transform = transforms.get_image_transform(size, center_crop, interpolation)
    for source in ((IMAGES / name).read_bytes(), photo(name), np.asarray(photo(name))):
        actual = transform(source)
        assert actual.shape == (3, size, size)
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().mean() < 0.01 * LEVEL
        assert (actual - expected).abs().max() < (1.1 if interpolation == "bilinear" else 2.1) * LEVEL


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 2), (63, 65), (64, 64), (64, 200), (501, 333), (1000, 3)])
@pytest.mark.parametrize("center_crop", [False, True])
def test_odd_shapes_are_rounded_and_cropped_as_published(shape: tuple[int, int], center_crop: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = published(64, center_crop, "bilinear")(Image.fromarray(pixels))
    actual = transforms.get_image_transform(64, center_crop)(pixels)
    assert actual.shape == (3, 64, 64)
    assert (actual - expected).abs().max() < 1.6 * LEVEL
    assert (actual - expected).abs().mean() < 0.2 * LEVEL


def test_sides_are_cut_off_and_not_rounded() -> None:
    assert shorter_side_to(427, 640, 224) == (224, 335)  # 335.7
    assert shorter_side_to(640, 427, 224) == (335, 224)
    assert shorter_side_to(5, 5, 3) == (3, 3)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P"])
def test_modes_without_alpha(mode: str) -> None:
    """By the colours of the picture: resizing in its own mode, as published, would mix palette numbers."""
    image = photo().convert(mode)
    expected = published(64, False, "bilinear")(image.convert("RGB"))
    assert (transforms.get_image_transform(64)(image) - expected).abs().mean() < 0.01 * LEVEL


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    transform = transforms.get_image_transform(64)
    assert torch.equal(transform(photo().convert("RGBA")), transform(photo()))


def test_mean_and_std_per_channel() -> None:
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)
    expected = published(64, False, "bilinear", mean, std)(photo())
    actual = transforms.get_image_transform(64, mean=mean, std=std)(photo())
    assert (actual - expected).abs().mean() < 0.01 * 2 * LEVEL


def test_normalize_takes_batches_and_memory() -> None:
    transform = transforms.get_image_transform(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    out = torch.empty(4, 3, 32, 32)
    assert transform.normalize(pixels, out=out) is out
    expected = peer.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))(pixels / 255)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


def test_the_result_shares_no_memory_with_the_source() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    result = transforms.get_image_transform(32).pixels(pixels)
    pixels[:] = 255
    assert result.max() == 0


def test_from_config_is_the_same_and_can_be_pickled() -> None:
    config = PreprocessConfig(96, "center_crop", "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    direct = transforms.get_image_transform(96, True, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert from_config(config) == direct
    assert torch.equal(pickle.loads(pickle.dumps(direct))(photo()), direct(photo()))


def test_reduced_decoding_is_close() -> None:
    file = io.BytesIO()
    photo().resize((2560, 1708), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    config = PreprocessConfig(384)
    full = ImageTransform(config)(file.getvalue())
    reduced = from_config(config, reduced_decoding=True)(file.getvalue())
    assert 0 < (full - reduced).abs().mean() < 0.7 * LEVEL


def test_wrong_settings_and_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        transforms.get_image_transform(0)
    with pytest.raises(ConfigError, match="interpolation"):
        transforms.get_image_transform(64, interpolation="nearest")  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"missing\.jpg"):
        transforms.get_image_transform(64)(tmp_path / "missing.jpg")
    with pytest.raises(ShapeError):
        transforms.get_image_transform(64)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(MediaError, match="6144 pixels"):
        from_config(PreprocessConfig(64), limits=Limits(max_pixels=6000))(np.zeros((64, 96, 3), np.uint8))


def test_a_sliver_cannot_fill_the_memory() -> None:
    sliver = np.zeros((1, 100_000, 3), np.uint8)
    with pytest.raises(MediaError, match="too narrow"):
        transforms.get_image_transform(448, center_crop=True)(sliver)
    assert transforms.get_image_transform(448)(sliver).shape == (3, 448, 448)
