"""Tiles: the grid rule against a plain search, the order of the tiles, and who is warned."""

import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.errors import ConfigError, MediaError
from midsight.transforms import tiling
from midsight.transforms.tiling import choose_grid, tile_image


def plainly(width: int, height: int, max_tiles: int, tile: int) -> tuple[int, int]:
    """The rule for pictures that some canvas holds, as a search over all grids; no ties between shapes in it."""
    grids = [(c, r) for c in range(1, max_tiles + 1) for r in range(1, max_tiles + 1) if c * r <= max_tiles]
    fitting = [g for g in grids if g[0] * tile >= width and g[1] * tile >= height]

    def shorter(grid: tuple[int, int]) -> float:
        scale = min(grid[0] * tile / width, grid[1] * tile / height)
        return scale * min(width, height)

    return max(fitting, key=shorter)


@pytest.mark.parametrize("seed", range(20))
def test_the_grid_shows_a_small_picture_largest(seed: int) -> None:
    draw = random.Random(seed)
    width, height = draw.randint(10, 448), draw.randint(10, 448)
    expected = plainly(width, height, 16, 448)
    chosen = choose_grid(width, height, 16)
    ours = min(chosen[0] * 448 / width, chosen[1] * 448 / height) * min(width, height)
    theirs = min(expected[0] * 448 / width, expected[1] * 448 / height) * min(width, height)
    assert ours == pytest.approx(theirs, abs=1)  # pixels: the published rule rounds before it compares


@pytest.mark.parametrize(
    ("width", "height", "max_tiles", "expected"),
    [
        (448, 448, 1, (1, 1)),
        (448, 448, 4, (2, 2)),
        (896, 448, 16, (5, 3)),  # 2.5 times as large; (4, 2) would show it twice as large only
        (3000, 1000, 9, (3, 1)),  # larger than every canvas: three columns to a row
        (1000, 3000, 9, (2, 4)),  # a tall one takes a ratio above its own, never its own
        (10_000, 100, 6, (6, 1)),
        (100, 10_000, 6, (1, 6)),
    ],
)
def test_grids_worked_out_by_hand(width: int, height: int, max_tiles: int, expected: tuple[int, int]) -> None:
    assert choose_grid(width, height, max_tiles) == expected


def test_tiles_run_along_the_rows_behind_the_thumbnail() -> None:
    brightness = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    picture = Image.fromarray(brightness.repeat(64, 0).repeat(64, 1)).convert("RGB")
    tiles = tile_image(picture, 6, tile=64)
    assert tiles.shape == (7, 3, 64, 64)
    assert tiles.dtype == torch.float32
    middle = (tiles[1:, :, 32, 32] * 127.5 + 127.5).round()
    assert middle.tolist() == [[value] * 3 for value in brightness.flatten().tolist()]
    small = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1
    torch.testing.assert_close(tiles[0], torch.from_numpy(small).permute(2, 0, 1), atol=2 / 127.5, rtol=0)


def test_without_a_thumbnail_there_are_only_tiles() -> None:
    assert len(tile_image(Image.new("RGB", (300, 200)), 6, tile=100, thumbnail=False)) == 6


def test_a_picture_of_one_pixel_becomes_tiles_of_its_colour() -> None:
    tiles = tile_image(Image.new("RGB", (1, 1), (255, 0, 128)), 4, tile=28)
    assert tiles.shape == (5, 3, 28, 28)
    assert tiles.flatten(2).std() > 0.5
    assert tiles.flatten(2).std(dim=2).max() < 1e-6


@pytest.mark.parametrize("values", [(0, 10, 4, 448), (10, 0, 4, 448), (10, 10, 0, 448), (10, 10, 4, 0)])
def test_numbers_below_one_are_refused(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        choose_grid(*values)


def test_an_unreadable_picture_is_named(tmp_path) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(b"no picture")
    with pytest.raises(MediaError, match="page.png"):
        tile_image(path, 4)


class TestUnfit:
    @pytest.fixture(autouse=True)
    def nothing_said_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiling, "_said", set())

    def test_tiles_for_an_encoder_without_tiling_warn_once(self) -> None:
        with pytest.warns(UserWarning, match="PE-Lang-L14-448-Tiling"):
            tiling.warn_if_unfit("PE-Lang-L14-448", (900, 900), tiled=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiling.warn_if_unfit("PE-Lang-L14-448", (900, 900), tiled=True)

    @pytest.mark.parametrize("name", ["PE-Lang-G14-448", "PE-Lang-G14-448-Tiling"])
    def test_a_large_page_without_tiles_warns(self, name: str) -> None:
        with pytest.warns(UserWarning, match="1700x2200.*PE-Lang-G14-448-Tiling"):
            tiling.warn_if_unfit(name, (1700, 2200), tiled=False)

    @pytest.mark.parametrize(
        ("name", "size", "tiled"),
        [
            ("PE-Lang-L14-448-Tiling", (1700, 2200), True),
            ("PE-Lang-L14-448", (640, 480), False),
            ("PE-Core-L14-336", (1700, 2200), False),
        ],
    )
    def test_what_fits_is_let_pass(self, name: str, size: tuple[int, int], tiled: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiling.warn_if_unfit(name, size, tiled)
