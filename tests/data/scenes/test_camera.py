"""The pinhole camera against its own equations, and each move against what it does to the picture."""

import numpy as np
import pytest

from midsight.data.scenes.camera import MOVES, Camera, camera_path
from midsight.errors import ConfigError

START = Camera((1.0, 1.5, 4.0), (0.2, 1.5, 0.0), 50.0, 200)


def test_the_target_is_in_the_middle_and_up_is_up() -> None:
    pixels, depth = START.project(np.array([START.target, np.add(START.target, (0, 0.5, 0))]))
    np.testing.assert_allclose(pixels[0], (100, 100), atol=1e-9)
    assert depth[0] == pytest.approx(np.linalg.norm(np.subtract(START.target, START.position)))
    assert pixels[1, 1] < 95
    assert abs(pixels[1, 0] - 100) < 1e-9


def test_the_field_of_view_spans_the_picture() -> None:
    camera = Camera((0, 1, 3), (0, 1, 0), 90.0, 64)  # 3 m away and 90 degrees: 6 m wide
    pixels, _ = camera.project(np.array([(-3.0, 1, 0), (3.0, 1, 0), (0, 4.0, 0)]))
    np.testing.assert_allclose(pixels, [(0, 32), (64, 32), (32, 0)], atol=1e-9)


def test_matrices_say_the_same_as_project() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    pixels, depth = START.project(points)
    matrix = START.world_to_camera()
    seen = START.intrinsics() @ (matrix[:3, :3] @ points.T + matrix[:3, 3:])
    np.testing.assert_allclose(seen[:2] / seen[2], pixels.T, atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(START.unproject(pixels, depth), points, atol=1e-9)


# where the target goes in the picture (x, y), how its depth changes, and whether its surroundings grow
EFFECTS = {
    "pan left": (1, 0, 0), "pan right": (-1, 0, 0), "tilt up": (0, 1, 0), "tilt down": (0, -1, 0),
    "track left": (1, 0, 0), "track right": (-1, 0, 0), "closer": (0, 0, -1), "away": (0, 0, 1), "rise": (0, 1, 0),
    "sink": (0, -1, 0), "orbit left": (0, 0, 0), "orbit right": (0, 0, 0), "zoom in": (0, 0, 0), "zoom out": (0, 0, 0),
    "still": (0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("move", MOVES)
def test_moves_do_what_the_caption_says(move: str) -> None:
    first, *_, last = camera_path(START, move, 5)
    np.testing.assert_allclose(first.position + first.target, START.position + START.target, atol=1e-9)
    assert first.fov == START.fov
    (before,), (depth_before,) = START.project(np.array([START.target]))
    (after,), (depth_after,) = last.project(np.array([START.target]))
    expected = EFFECTS[move]
    for change, sign in zip(after - before, expected[:2], strict=True):
        assert change * sign > 5 if sign else abs(change) < 1e-6
    if expected[2]:
        assert (depth_after - depth_before) * expected[2] > 0.3
    if move.startswith("zoom"):
        assert (last.focal > START.focal * 1.1) == (move == "zoom in")
    if move.startswith("orbit"):  # the camera's new place, seen from its old one
        step = START.world_to_camera()[:3, :3] @ np.subtract(last.position, START.position)
        assert step[0] * (-1 if move == "orbit left" else 1) > 0.5
        assert depth_after == pytest.approx(depth_before)


def test_odd_cameras_are_refused() -> None:
    with pytest.raises(ConfigError, match="spin"):
        camera_path(START, "spin", 3)
    with pytest.raises(ConfigError, match="at least 1 frame"):
        camera_path(START, "still", 0)
    with pytest.raises(ConfigError, match="fov"):
        Camera((0, 1, 1), (0, 0, 0), 0.0, 64)
    with pytest.raises(ConfigError, match="straight"):
        Camera((0, 1, 0), (0, 0, 0), 40.0, 64)
