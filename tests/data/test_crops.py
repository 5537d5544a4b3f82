"""Training pictures: the same number gives the same picture, crops stay inside, drawings keep their captions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.crops import CropMixer, Mixture, Pyramid, drawings_shown, on_white
from midsight.data.packaged import Picture


def picture(path: Path, kind: str, captions: tuple[str, ...] = ()) -> Picture:
    return Picture(path, kind, captions, "test", "CC0-1.0")  # type: ignore[arg-type]


@pytest.fixture
def mixer(tmp_path: Path) -> CropMixer:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(tmp_path / "texture.png")
    Image.new("RGBA", (40, 60), (255, 0, 0, 255)).save(tmp_path / "drawing.png")
    Image.new("RGBA", (40, 60), (0, 0, 255, 255)).save(tmp_path / "flag.png")
    drawings = [
        picture(tmp_path / "drawing.png", "drawing", ("card",)),
        picture(tmp_path / "flag.png", "drawing", ("flag",)),
    ]
    photographs, textures = (
        [picture(tmp_path / "photo.png", "photograph")],
        [picture(tmp_path / "texture.png", "texture")],
    )
    return CropMixer(photographs, textures, drawings, Mixture(size=32), seed=3)


def test_a_number_gives_the_same_picture_in_any_order(mixer: CropMixer) -> None:
    first = [mixer.sample(number) for number in (0, 1, 2)]
    again = [mixer.sample(number) for number in (2, 1, 0)][::-1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert a.drawing == b.drawing
    assert not np.array_equal(first[0].pixels, first[1].pixels)


def test_shares_of_drawings_and_flags(mixer: CropMixer) -> None:
    shown = np.array([mixer.sample(number).drawing for number in range(400)])
    assert 0.45 < (shown >= 0).mean() < 0.65
    assert (shown == 1).sum() < 0.4 * (shown == 0).sum()  # one flag in five is kept


def test_which_drawings_come_up_is_known_without_making_them(mixer: CropMixer) -> None:
    made = [mixer.sample(number).drawing for number in range(60)]
    for count in (0, 1, 3, 60):
        shown = drawings_shown(mixer.drawings, mixer.mixture, mixer.seed, count)
        assert shown == {drawing for drawing in made[:count] if drawing >= 0}
    assert drawings_shown(mixer.drawings, mixer.mixture, mixer.seed, 60) == {0, 1}


def test_a_drawing_is_seen(mixer: CropMixer) -> None:
    samples = [mixer.sample(number) for number in range(60)]
    for sample in (s for s in samples if s.drawing == 0):
        red = (sample.pixels[..., 0].astype(int) - sample.pixels[..., 2] > 60).mean()
        assert red > 0.1


def test_a_crop_of_a_known_place(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :, 0] = np.arange(64) * 4
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    crop = np.asarray(Pyramid(picture(tmp_path / "ramp.png", "photograph"), 16).crop(np.random.default_rng(0), 0.5, 16))
    steps = np.diff(crop[8, :, 0].astype(int))
    assert crop.shape == (16, 16, 3)
    assert (steps >= 0).all()
    assert crop[8, -1, 0] > crop[8, 0, 0]


def test_a_drawing_on_white_keeps_its_shape(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 40), (0, 0, 0, 255)).save(tmp_path / "bar.png")
    page = on_white(picture(tmp_path / "bar.png", "drawing"), 40)
    assert (page[:, 20] == 0).all()
    assert (page[:, :8] == 255).all()
