"""Pictures: what comes out is what a person sees, in every mode and format; Pillow is the peer."""

import io
import random
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from midsight import images
from midsight.errors import ConfigError, InputError, MediaError, MissingDependencyError, ShapeError
from midsight.images import Limits, load_image

PHOTO = files("sklearn.datasets") / "images" / "china.jpg"  # 640x427, a real photograph
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with PHOTO.open("rb") as file:
        return Image.open(file).convert("RGB").resize((96, 64))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def half_transparent(mode: str) -> Image.Image:
    """Left half opaque red (or dark grey), right half wholly transparent over a hidden green (or grey)."""
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, :4] = (*RED, 255)
    rgba[:, 4:] = (*GREEN, 0)
    return Image.fromarray(rgba).convert(mode)


# The same pixels as Pillow


def test_a_photograph_is_decoded_like_pillow_does() -> None:
    expected = np.asarray(Image.open(io.BytesIO(PHOTO.read_bytes())).convert("RGB"))
    pixels = load_image(PHOTO.read_bytes())
    assert pixels.shape == (427, 640, 3)
    assert difference(pixels, expected) < 0.01
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_every_kind(photo: Image.Image, subsampling: int, progressive: bool) -> None:
    data = encoded(photo, "JPEG", subsampling=subsampling, progressive=progressive, quality=85)
    assert difference(load_image(data), np.asarray(Image.open(io.BytesIO(data)))) < 0.01


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("PPM", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TGA", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 90}, 8),
        ("AVIF", {"quality": 90}, 8),
        ("HEIF", {"quality": 90}, 8),
        ("JPEG2000", {}, 0),
        ("GIF", {}, 12),
    ],
)
def test_formats(photo: Image.Image, kind: str, options: dict[str, Any], tolerance: float) -> None:
    pillow_heif.register_heif_opener()
    assert difference(load_image(encoded(photo, kind, **options)), np.asarray(photo)) <= tolerance


def test_heic_registers_itself_or_names_the_extra(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.register_heif_opener()
    data = encoded(photo, "HEIF")
    for registry in (Image.OPEN, Image.EXTENSION):
        monkeypatch.setattr(Image, "OPEN" if registry is Image.OPEN else "EXTENSION", dict(registry))
    Image.OPEN.pop("HEIF")
    assert load_image(data).shape == (64, 96, 3)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MissingDependencyError, match=r"midsight\[heif\]"):
        load_image(data)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "MPO"])
def test_exif_orientation(photo: Image.Image, kind: str, orientation: int) -> None:
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo, kind, exif=exif.tobytes())  # HEIF and AVIF: becomes the container's own rotation
    stored = Image.new("RGB", photo.size)
    stored.paste(photo)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    pixels = load_image(data)
    assert pixels.shape == expected.shape
    assert difference(pixels, expected) < 8
    np.testing.assert_array_equal(load_image(Image.open(io.BytesIO(data))), pixels)  # a PIL image is no different


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_either_byte_order(photo: Image.Image, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a maker"
    exif[0x0112] = 6
    assert load_image(encoded(photo, "JPEG", exif=exif)).shape == (96, 64, 3)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0XX" * 9]
)
def test_broken_exif_is_no_reason_to_refuse(photo: Image.Image, exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        plain = encoded(photo, kind)
        try:
            data = encoded(photo, kind, exif=exif)
        except Exception:  # Pillow would not write it
            continue
        np.testing.assert_array_equal(load_image(data), load_image(plain))


# Modes


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_are_white(mode: str) -> None:
    image = half_transparent("RGBA" if mode != "LA" else "LA")
    pixels = load_image(image.convert(mode))
    assert (pixels[:, 4:] == 255).all()
    np.testing.assert_array_equal(pixels[0, 0], RED if mode != "LA" else (76, 76, 76))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_transparency_survives_files(kind: str) -> None:
    pixels = load_image(encoded(half_transparent("RGBA"), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert difference(pixels[:, 5:], np.full((8, 3, 3), 255)) < 3
    assert difference(pixels[:, :3], np.full((8, 3, 3), RED)) < 3


def test_every_colour_and_alpha_is_mixed_and_rounded() -> None:
    """All 65,536 pairs, in a picture of more rows than are mixed at a time."""
    alpha, colour = np.divmod(np.arange(256 * 256), 256)
    rgba = np.stack([colour, colour[::-1], 255 - colour, alpha], axis=-1).astype(np.uint8).reshape(256, 256, 4)
    rgba = np.concatenate([rgba, rgba[::-1]])
    weight = rgba[..., 3:].astype(np.float64) / 255
    expected = np.rint(rgba[..., :3] * weight + 255 * (1 - weight))  # never half-way between two numbers
    np.testing.assert_array_equal(load_image(rgba), expected)


def test_half_transparent_is_mixed_with_white() -> None:
    rgba = np.array([[[0, 100, 200, 128]]], np.uint8)
    np.testing.assert_array_equal(load_image(Image.fromarray(rgba)), [[[127, 177, 227]]])
    np.testing.assert_array_equal(load_image(rgba), [[[127, 177, 227]]])


def test_a_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([*GREEN, *RED])
    image.putpixel((3, 1), 0)
    plain = load_image(encoded(image, "PNG"))
    assert tuple(plain[1, 3]) == GREEN
    for transparency in (0, b"\x00\xff"):
        pixels = load_image(encoded(image, "PNG", transparency=transparency))
        assert tuple(pixels[0, 0]) == RED
        assert tuple(pixels[1, 3]) == WHITE


def test_rgb_and_grey_with_a_transparent_colour() -> None:
    rgb = Image.new("RGB", (4, 2), RED)
    rgb.putpixel((3, 1), GREEN)
    assert tuple(load_image(encoded(rgb, "PNG", transparency=GREEN))[1, 3]) == WHITE
    grey = Image.new("L", (4, 2), 50)
    grey.putpixel((3, 1), 9)
    pixels = load_image(encoded(grey, "PNG", transparency=9))
    assert tuple(pixels[1, 3]) == WHITE
    assert tuple(pixels[0, 0]) == (50, 50, 50)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_keep_their_shades(kind: str) -> None:
    shades = np.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(np.uint16)
    pixels = load_image(encoded(Image.fromarray(shades), kind))
    np.testing.assert_array_equal(pixels[..., 0], shades >> 8)
    np.testing.assert_array_equal(load_image(shades), pixels)


def test_other_depths_of_grey() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(2, 0)
    expected = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(ramp), "TIFF"))[0, :, 0], expected)
    stretched = load_image(encoded(Image.fromarray(ramp * 1000 - 500), "TIFF"))[0, :, 0]
    assert difference(stretched, expected) <= 0.01
    whole = Image.fromarray((ramp * 65535).astype(np.int32))
    assert difference(load_image(encoded(whole, "TIFF"))[0, :, 0], expected) < 1
    flat = load_image(encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))
    assert (flat == 0).all()


def test_one_bit_and_greyscale(photo: Image.Image) -> None:
    for mode in ("1", "L"):
        expected = np.asarray(photo.convert(mode).convert("RGB"))
        np.testing.assert_array_equal(load_image(encoded(photo.convert(mode), "PNG")), expected)
    grey = encoded(photo.convert("L"), "JPEG", quality=95)
    assert difference(load_image(grey), np.asarray(photo.convert("L").convert("RGB"))) < 2


def test_cmyk_is_not_a_negative(photo: Image.Image) -> None:
    """Pillow writes CMYK as Adobe does, inverted; without Adobe's marker it is not."""
    adobe = encoded(photo.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in adobe
    assert difference(load_image(adobe), np.asarray(photo)) < 4
    tiff = encoded(photo.convert("CMYK"), "TIFF")
    assert difference(load_image(tiff), np.asarray(photo)) < 1


def test_lab(photo: Image.Image) -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(photo, *profiles, outputMode="LAB")
    assert lab is not None
    assert difference(load_image(encoded(lab, "TIFF")), np.asarray(photo)) < 4


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_animations_give_their_first_frame(kind: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, WHITE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
        image.seek(2)
    assert (load_image(data) == RED).all()


# Sources


def test_every_kind_of_source(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo.save(path)
    array = np.asarray(photo)
    with path.open("rb") as file:
        sources = [
            path,
            str(path),
            path.read_bytes(),
            bytearray(path.read_bytes()),
            io.BytesIO(path.read_bytes()),
            file,
        ]
        sources += [photo, array, torch.from_numpy(array.copy()).permute(2, 0, 1), array.astype(np.float32) / 255]
        sources += [torch.from_numpy(array.copy()).permute(2, 0, 1) / 255, array.astype(np.uint16) * 257]
        for source in sources:
            np.testing.assert_array_equal(load_image(source), array)


def test_grey_and_boolean_arrays() -> None:
    mask = np.eye(4, dtype=bool)
    for source in (mask, mask[..., None], torch.from_numpy(mask), torch.from_numpy(mask)[None], mask * np.float64(1)):
        np.testing.assert_array_equal(load_image(source), np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))


def test_half_precision_tensors() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert (load_image(torch.ones(3, 2, 2, dtype=dtype)) == 255).all()


def test_read_only_arrays_are_copied() -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    assert load_image(array) is array
    array.flags.writeable = False
    assert load_image(array).flags.writeable


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), ShapeError, r"\(3, 8, 9\).*\(H, W, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), ShapeError, "expected pixels"),
        (np.zeros((2, 2, 3), np.int64), ShapeError, "int64"),
        (np.zeros((2, 2, 3), np.complex64), ShapeError, "complex64"),
        (torch.zeros(2, 3, 8, 8), ShapeError, "one picture at a time"),
        (torch.zeros(8, 8, 3), ShapeError, r"\(3, H, W\)"),
        (np.full((2, 2, 3), 255.0), InputError, r"from 255 to 255, expected \[0, 1\]"),
        (np.full((2, 2, 3), np.nan), InputError, "nan"),
        (np.full((2, 2, 3), -0.1), InputError, "-0.1"),
        (None, InputError, "not a picture"),
        (42, InputError, "Expected a path"),
        (["a.jpg"], InputError, "Expected a path"),
        (io.StringIO("text"), InputError, "mode 'rb'"),
    ],
)
def test_wrong_sources(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_image(source)


# Broken, missing, too large


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is not a picture " * 40)
    (tmp_path / "start.jpg").write_bytes(b"\xff\xd8\xff")
    for name, message in (
        ("missing.jpg", "no such file"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
        ("start.jpg", "not a picture|cut"),
        ("", "a folder"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(MediaError, match=message) as caught:
            load_image(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    mkfifo: Callable[[Path], None] | None = getattr(__import__("os"), "mkfifo", None)
    if mkfifo is None:
        pytest.skip("no pipes with names on this system")
    mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(MediaError, match="not a regular file"):
        load_image(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_cut_picture_is_refused(photo: Image.Image, kind: str) -> None:
    data = encoded(photo, kind)
    with pytest.raises(MediaError, match="cut"):
        load_image(data[: len(data) * 6 // 10])


def test_limits_are_checked_before_decoding(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    for data in (jpeg, png):
        with pytest.raises(MediaError, match=r"96x64 is 6144 pixels, the limit is 6143"):
            load_image(data, limits=Limits(max_pixels=6143))
        with pytest.raises(MediaError, match="limit of 100 bytes"):
            load_image(data, limits=Limits(max_bytes=100))


def test_limits_hold_for_pixels_in_memory_and_files_on_disk(tmp_path: Path, photo: Image.Image) -> None:
    small = Limits(max_pixels=100)
    for source in (photo, np.asarray(photo), torch.zeros(3, 64, 96)):
        with pytest.raises(MediaError, match="6144 pixels"):
            load_image(source, limits=small)
    photo.save(tmp_path / "a.bmp")
    with pytest.raises(MediaError, match="Raise Limits.max_bytes"):
        load_image(tmp_path / "a.bmp", limits=Limits(max_bytes=1000))
    with pytest.raises(ConfigError):
        Limits(max_pixels=0)


def test_a_decompression_bomb_is_refused_at_once() -> None:
    """200 megapixels in 200 kB; and one that Pillow would only warn of is read in silence as far as the limit goes."""
    bomb = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    assert len(bomb) < 200_000
    with pytest.raises(MediaError, match="pixels"):
        load_image(bomb)
    with pytest.raises(MediaError, match="100000000 pixels, the limit is 90000000"):
        load_image(encoded(Image.new("1", (10_000, 10_000)), "PNG"), limits=Limits(max_pixels=90_000_000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_broken_files_raise_nothing_else_and_warn_of_nothing(photo: Image.Image, kind: str) -> None:
    data, draw = encoded(photo, kind, exif=Image.Exif()), random.Random(kind)
    outcomes = set()
    for round_ in range(200):
        broken = bytearray(data)
        if round_ % 2:
            broken = broken[: draw.randrange(len(data))]
        else:
            for _ in range(draw.choice((1, 3, 30))):
                broken[draw.randrange(draw.choice((64, len(broken))))] = draw.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                pixels = load_image(bytes(broken), limits=Limits(max_pixels=1_000_000))
            except MediaError:
                outcomes.add("error")
            else:
                assert pixels.dtype == np.uint8
                assert pixels.ndim == 3
                outcomes.add("pixels")
    assert outcomes == ({"error"} if kind == "PNG" else {"error", "pixels"})  # PNG checks every byte


# Reduced decoding


def test_reduced_decoding_is_fast_and_close() -> None:
    """The figures of the docstring: at least twice the target on the shorter side; how far the result is off."""
    with PHOTO.open("rb") as file:
        large = Image.open(file).convert("RGB").resize((2560, 1708), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=90)
    full, reduced = load_image(data), load_image(data, reduced_to=384)
    assert full.shape[:2] == (1708, 2560)
    assert reduced.shape[:2] == (854, 1280)
    small = [np.asarray(Image.fromarray(p).resize((384, 384), Image.Resampling.BILINEAR)) for p in (full, reduced)]
    assert 0 < difference(*small) < 0.7
    assert load_image(data, reduced_to=1000).shape == full.shape
    assert load_image(encoded(large.resize((800, 600)), "PNG"), reduced_to=100).shape == (600, 800, 3)


def test_scratch_memory_is_used_again() -> None:
    scratch, data = images.Scratch(), PHOTO.read_bytes()
    first = load_image(data, scratch=scratch)
    expected = first.copy()
    second = load_image(data, scratch=scratch)
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(second, expected)


def test_pages_of_a_tiff(photo: Image.Image) -> None:
    turned = [photo, photo.rotate(90, expand=True), photo.convert("L")]
    data = encoded(turned[0], "TIFF", save_all=True, append_images=turned[1:], compression="tiff_lzw")
    assert images.count_pages(data) == 3
    for number, page in enumerate(turned, 1):
        np.testing.assert_array_equal(load_image(data, page=number), np.asarray(page.convert("RGB")))
    for number in (0, 4):
        with pytest.raises(MediaError, match=f"has 3 pages, page {number} was asked for"):
            load_image(data, page=number)


def test_other_pictures_are_one_page(photo: Image.Image) -> None:
    animated = encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(180)])
    assert [images.count_pages(data) for data in (encoded(photo, "PNG"), encoded(photo, "JPEG"), animated)] == [1, 1, 1]
    assert images.count_pages(encoded(photo, "TIFF")) == 1
    with pytest.raises(MediaError, match="empty"):
        images.count_pages(b"")
    with pytest.raises(MediaError, match="cut"):
        images.count_pages(encoded(photo, "TIFF")[:8])
