"""Cut-outs on landscapes: what is pasted is what the masks say."""

from pathlib import Path

import numpy as np
from PIL import Image

from midsight.data.composites import CompositeConfig, CutOut, _cut, composites

CONFIG = CompositeConfig(size=64, most=3, smallest=8)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def disc(colour: tuple[int, int, int]) -> Image.Image:
    y, x = np.mgrid[:40, :20]
    inside = ((y - 19.5) / 20) ** 2 + ((x - 9.5) / 10) ** 2 < 1
    return Image.fromarray(np.dstack([np.full((40, 20, 3), colour, np.uint8), np.uint8(255) * inside]), "RGBA")


def test_masks_are_where_things_are() -> None:
    landscape = Image.new("RGB", (200, 120), (128, 128, 128))
    things = [CutOut(name, disc(colour)) for name, colour in COLOURS.items()]
    made = list(composites([landscape], things, 12, 3, CONFIG))
    assert len(made) == 12
    assert {len(one.names) for one in made} == {1, 2, 3}
    for one in made:
        assert one.pixels.shape == (64, 64, 3)
        assert one.pixels.flags.writeable
        assert len(set(one.names)) == len(one.names)
        for number, name in enumerate(one.names, 1):
            found = one.pixels[one.ids == number].astype(int)
            assert len(found) > 30
            assert np.abs(found - COLOURS[name]).mean() < 20  # but for the rim, that colour
        assert np.abs(one.pixels[one.ids == 0].astype(int) - 128).mean() < 12
    names = [name for one in made for name in one.names]
    assert max(map(names.count, COLOURS)) - min(map(names.count, COLOURS)) <= 4
    again = next(composites([landscape], things, 1, 3, CONFIG))
    np.testing.assert_array_equal(again.pixels, made[0].pixels)
    other = next(composites([landscape], things, 1, 4, CONFIG))
    assert not np.array_equal(other.ids, made[0].ids)


def test_a_cut_out_is_cut_to_what_is_opaque(tmp_path: Path) -> None:
    page = Image.new("RGBA", (60, 50), (9, 9, 9, 0))
    page.paste(disc((1, 2, 3)), (30, 5))
    page.save(tmp_path / "a.png")
    cut = _cut(tmp_path / "a.png", CONFIG)
    assert cut is not None
    assert cut.size == (20, 40)
    Image.new("RGBA", (60, 50), (9, 9, 9, 255)).save(tmp_path / "b.png")
    assert _cut(tmp_path / "b.png", CONFIG) is None  # no cut-out
    assert _cut(tmp_path / "a.png", CompositeConfig(smallest=61)) is None
