"""Clips of a picture: the window is where the name of the move says, at the start and at the end."""

import numpy as np
import pytest

from midsight.data.moves import PART, WINDOW_MOVES, move_over
from midsight.data.scenes.camera import MOVES
from midsight.errors import ConfigError


def places(move: str) -> list[tuple[float, float, float]]:
    """What each frame shows of a picture whose red grows to the right and green downwards: middle, and width."""
    y, x = np.mgrid[:100, :200]
    picture = np.dstack([x, 2 * y, np.zeros_like(x)]).astype(np.uint8)
    frames = [frame.astype(float) for frame in move_over(picture, move, 5, 80)]
    assert {frame.shape for frame in frames} == {(40, 80, 3)}
    return [(f[..., 0].mean() / 200, f[..., 1].mean() / 200, np.ptp(f[20, :, 0]) / 200) for f in frames]


@pytest.mark.parametrize(
    ("move", "start", "end"),
    [
        ("pan left", (1 - PART / 2, 0.5), (PART / 2, 0.5)),
        ("pan right", (PART / 2, 0.5), (1 - PART / 2, 0.5)),
        ("tilt up", (0.5, 1 - PART / 2), (0.5, PART / 2)),
        ("tilt down", (0.5, PART / 2), (0.5, 1 - PART / 2)),
    ],
)
def test_a_window_goes_from_edge_to_edge(move: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    seen = places(move)
    assert seen[0][:2] == pytest.approx(start, abs=0.02)
    assert seen[2][:2] == pytest.approx((0.5, 0.5), abs=0.02)
    assert seen[-1][:2] == pytest.approx(end, abs=0.02)
    assert [width for *_, width in seen] == pytest.approx([PART] * 5, abs=0.03)


def test_a_zoom_stays_in_the_middle() -> None:
    inwards, outwards = places("zoom in"), places("zoom out")
    assert [width for *_, width in inwards] == pytest.approx(np.linspace(1, PART, 5), abs=0.03)
    assert [width for *_, width in outwards] == pytest.approx(np.linspace(PART, 1, 5), abs=0.03)
    for seen in (*inwards, *outwards):
        assert seen[:2] == pytest.approx((0.5, 0.5), abs=0.02)


def test_moves_are_called_as_in_scenes() -> None:
    assert set(WINDOW_MOVES) <= set(MOVES)
    with pytest.raises(ConfigError, match="'roll' is no move of a window; known are pan left"):
        next(move_over(np.zeros((8, 8, 3), np.uint8), "roll", 2, 8))
    with pytest.raises(ConfigError, match="at least 2 frames"):
        next(move_over(np.zeros((8, 8, 3), np.uint8), "zoom in", 1, 8))
