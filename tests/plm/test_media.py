"""Pictures and videos to tiles and frames."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.errors import InputError, MediaError
from midsight.images import Limits, load_image
from midsight.plm import PLMConfig
from midsight.plm.media import MediaLimits, open_media
from midsight.transforms.tiling import tile_pixels
from midsight.video import sample_seconds
from tests.plm import tiny

DEMO = Path(__file__).parents[2] / "midsight" / "assets" / "demo"
MEDIA = Path(__file__).parents[1] / "media"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PLMConfig:
    return tiny.config(tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_one_picture_is_tiled(config: PLMConfig) -> None:
    """A photograph, three to two: a thumbnail, and tiles that cover it."""
    (found,) = open_media([DEMO / "coffee.jpg"], config)
    pixels = load_image(DEMO / "coffee.jpg")
    assert found.size == (pixels.shape[1], pixels.shape[0])
    assert not found.is_video
    assert found.pixels.dtype == torch.float32
    assert 2 <= len(found.pixels) - 1 <= 4
    assert torch.equal(found.pixels, tile_pixels(pixels, 4, 56))
    squashed = Image.fromarray(pixels).resize((56, 56), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(squashed)).permute(2, 0, 1) / 127.5 - 1
    assert (found.pixels[0] - expected).abs().mean() < 0.02  # the thumbnail comes first


def test_of_several_pictures_each_is_one_tile(config: PLMConfig) -> None:
    cat, coffee = open_media([DEMO / "cat.jpg", DEMO / "coffee.jpg"], config)
    assert cat.pixels.shape == coffee.pixels.shape == (1, 3, 56, 56)
    (alone,) = open_media([DEMO / "cat.jpg"], config, MediaLimits(max_tiles=1))
    assert torch.equal(alone.pixels, cat.pixels)
    assert (cat.pixels - coffee.pixels).abs().mean() > 0.1


def test_tiles_are_limited(config: PLMConfig) -> None:
    counts = [len(open_media([DEMO / "cat.jpg"], config, MediaLimits(max_tiles=n))[0].pixels) for n in (1, 2, 4, 9)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert all(count <= most + 1 for count, most in zip(counts, (1, 2, 4, 9), strict=True))
    assert counts[3] > 5


def test_a_video_is_its_frames(config: PLMConfig) -> None:
    (found,) = open_media([DEMO / "temple.mp4"], config)
    clip = sample_seconds(DEMO / "temple.mp4", 4)
    assert found.is_video
    assert found.size == (clip.frames.shape[2], clip.frames.shape[1])
    assert found.pixels.shape == (4, 3, 56, 56)
    for frame, pixels in zip(found.pixels, clip.frames, strict=True):
        small = Image.fromarray(pixels).resize((56, 56), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 127.5 - 1
        assert (frame - expected).abs().mean() < 0.02
    first, _ = open_media([DEMO / "temple.mp4", DEMO / "cat.jpg"], config, MediaLimits(max_frames=2))
    assert len(first.pixels) == 2


def test_a_part_of_a_video(config: PLMConfig) -> None:
    (whole,) = open_media([DEMO / "temple.mp4"], config)
    (part,) = open_media([DEMO / "temple.mp4"], config, MediaLimits(start=1.0, end=2.0))
    assert not torch.equal(part.pixels[0], whole.pixels[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (5000, 2)])
def test_pages_of_a_line_of_pixels(config: PLMConfig, size: tuple[int, int]) -> None:
    (found,) = open_media([Image.new("RGB", size, (255, 0, 0))], config)
    assert found.size == size
    red = torch.tensor([1.0, -1, -1])[None, :, None, None]
    torch.testing.assert_close(found.pixels, red.expand_as(found.pixels), atol=1e-6, rtol=0)


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few bytes whose header tells of a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_sources_that_cannot_be_read_are_named(config: PLMConfig, tmp_path: Path) -> None:
    text = tmp_path / "letter.png"
    text.write_text("not a picture")
    for path in (bomb(tmp_path / "bomb.png", 60_000), text, tmp_path / "gone.png", tmp_path / "gone.mp4", tmp_path):
        with pytest.raises(MediaError, match=path.name):
            open_media([path], config)
    with pytest.raises(MediaError, match="audio_only"):
        open_media([MEDIA / "audio_only.m4a"], config)


def test_limits_of_sources_hold(config: PLMConfig) -> None:
    with pytest.raises(MediaError, match="pixels"):
        open_media([DEMO / "cat.jpg"], config, MediaLimits(images=Limits(max_pixels=100)))


@pytest.mark.parametrize("wrong", [{"max_tiles": 0}, {"max_frames": 0}, {"start": 2.0, "end": 2.0}])
def test_limits_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        MediaLimits(**wrong)  # type: ignore[arg-type]
