"""Depth, normals and ids against geometry worked out by hand, at the very centres of the pixels."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from midsight.data.scenes import FurnitureModel
from midsight.data.scenes.camera import Array, Camera
from midsight.data.scenes.meshes import Mesh, Part, load_mesh
from midsight.data.scenes.render import Frame, Item, Renderer
from midsight.errors import ConfigError, InputError

SIZE = 65
CAMERA = Camera((0.3, 1.2, 2.5), (0.0, 0.3, 0.0), 45.0, SIZE)


@pytest.fixture(scope="module")
def renderer(egl: None) -> Iterator[Renderer]:
    with Renderer(SIZE, kept_meshes=2) as made:
        yield made


def rays(camera: Camera) -> Array:
    """Directions through the pixel centres, in the world, with length 1 along the viewing axis."""
    rows, columns = np.mgrid[: camera.size, : camera.size]
    half = camera.size / 2
    x, y = (columns + 0.5 - half) / camera.focal, (rows + 0.5 - half) / camera.focal
    return np.stack([x, y, np.ones_like(x)], -1) @ camera.world_to_camera()[:3, :3]


def floor() -> Mesh:
    corners = np.array([(-9, 0, -9), (-9, 0, 9), (9, 0, 9), (-9, 0, -9), (9, 0, 9), (9, 0, -9)], dtype="f4")
    rest = np.tile(np.array((0, 1, 0, 0, 0), dtype="f4"), (6, 1))
    return Mesh((Part(np.hstack([corners, rest]), (0.8, 0.2, 0.2), None),))


def at(x: float, z: float) -> Array:
    pose = np.eye(4)
    pose[:3, 3] = x, 0.0, z
    return pose


def test_a_plane_is_exact_at_pixel_centres(renderer: Renderer) -> None:
    frame = renderer.draw([], [Item(floor(), np.eye(4))], CAMERA)
    down = rays(CAMERA)[..., 1]
    exact = np.where(down < 0, -CAMERA.position[1] / down, 0)
    seen = frame.depth > 0
    assert seen.mean() > 0.7
    np.testing.assert_allclose(frame.depth[seen], exact[seen], rtol=1e-4)
    up = CAMERA.world_to_camera()[:3, 1]
    np.testing.assert_allclose(frame.normals[seen], np.broadcast_to(up, frame.normals[seen].shape), atol=1e-5)
    assert up[1] < 0  # y points down in the camera
    assert not frame.ids.any()
    assert np.all(frame.albedo[seen] == (204, 51, 51))


def test_a_ball_is_where_it_should_be(renderer: Renderer, models: list[FurnitureModel]) -> None:
    frame = renderer.draw([Item(load_mesh(models[2]), at(0.1, 0.2))], (), CAMERA)
    radius, middle = 0.125, np.array((0.1, 0.125, 0.2))
    directions, away = rays(CAMERA), np.array(CAMERA.position) - middle
    a, b, c = (directions**2).sum(-1), 2 * directions @ away, away @ away - radius**2
    inside = b * b - 4 * a * c > 0
    exact = (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0))) / (2 * a)
    assert np.count_nonzero(inside) > 40
    assert np.count_nonzero(inside != (frame.ids == 1)) <= 0.1 * np.count_nonzero(inside)  # its rim is a polygon
    both = inside & (frame.ids == 1)
    assert np.abs(frame.depth[both] - exact[both]).max() < 0.02
    assert np.median(np.abs(frame.depth[both] - exact[both])) < 0.001
    assert np.allclose(np.linalg.norm(frame.normals[both], axis=1), 1, atol=1e-4)
    assert (frame.normals[both] * frame_rays(frame, both)).sum(1).max() < 1e-3  # they face the camera


def frame_rays(frame: Frame, where: np.ndarray) -> Array:
    return (rays(frame.camera) @ frame.camera.world_to_camera()[:3, :3].T)[where]


def test_ids_follow_the_order_and_the_nearer_thing_hides(renderer: Renderer, models: list[FurnitureModel]) -> None:
    near, far = Item(load_mesh(models[0]), at(0.0, 0.5)), Item(load_mesh(models[4]), at(0.0, -1.0))
    frame = renderer.draw([near, far], (), CAMERA)
    assert set(np.unique(frame.ids)) == {0, 1, 2}
    assert frame.depth[frame.ids == 1].max() < frame.depth[frame.ids == 2].min()
    alone = renderer.areas_alone([near, far], CAMERA)
    assert alone[0] == np.count_nonzero(frame.ids == 1)
    assert alone[1] > np.count_nonzero(frame.ids == 2)


def test_paint_covers_the_colour(renderer: Renderer, models: list[FurnitureModel]) -> None:
    mesh = load_mesh(models[1])
    plain = renderer.draw([Item(mesh, at(0, 0))], (), CAMERA)
    painted = renderer.draw([Item(mesh, at(0, 0), (0.1, 0.2, 1.0))], (), CAMERA)
    inside = plain.ids == 1
    assert np.array_equal(plain.ids, painted.ids)
    assert plain.rgb[inside].std(0).max() > 20
    assert np.all(painted.rgb[inside][:, 2] > 1.5 * painted.rgb[inside][:, :2].max(1))


def test_the_sky_has_no_depth_and_colour_is_smooth(renderer: Renderer, models: list[FurnitureModel]) -> None:
    sky = np.full((8, 8, 4), (10, 200, 90, 255), dtype=np.uint8)
    frame = renderer.draw([Item(load_mesh(models[2]), at(0, 0))], (), CAMERA, sky=sky)
    assert np.all(frame.rgb[0] == (10, 200, 90))
    assert not frame.depth[frame.ids == 0].any()
    edge = (frame.ids == 0) & np.roll(frame.ids == 1, 1, axis=1)
    mixed = frame.rgb[edge]  # beside the ball, colours between the two
    assert np.any((mixed[:, 0] > 30) & (mixed[:, 1] < 195))


def test_meshes_are_dropped_and_loaded_again(renderer: Renderer, models: list[FurnitureModel]) -> None:
    meshes = [load_mesh(model) for model in models[:4]]  # twice as many as are kept
    draws = [[renderer.draw([Item(mesh, at(0, 0))], (), CAMERA) for mesh in meshes] for _ in range(2)]
    for first, second in zip(*draws, strict=True):
        assert np.array_equal(first.rgb, second.rgb)
        assert np.array_equal(first.depth, second.depth)
    renderer.forget(meshes)
    assert np.array_equal(renderer.draw([Item(meshes[0], at(0, 0))], (), CAMERA).rgb, draws[0][0].rgb)


def test_two_renderers_do_not_mix(renderer: Renderer, models: list[FurnitureModel]) -> None:
    items = [Item(load_mesh(models[2]), at(0, 0)), Item(load_mesh(models[0]), at(0.5, 0))]
    before = renderer.draw(items, (), CAMERA)
    with Renderer(32) as other:
        small = other.draw(items[:1], (), Camera(CAMERA.position, CAMERA.target, 45.0, 32))
        between = renderer.draw(items, (), CAMERA)
        again = other.draw(items[:1], (), Camera(CAMERA.position, CAMERA.target, 45.0, 32))
    assert np.array_equal(before.ids, between.ids)
    assert np.array_equal(small.rgb, again.rgb)
    assert set(np.unique(small.ids)) == {0, 1}
    assert np.array_equal(renderer.draw(items, (), CAMERA).rgb, before.rgb)


def test_what_does_not_fit_is_refused(renderer: Renderer) -> None:
    with pytest.raises(ConfigError, match="renderer of 65"):
        renderer.draw([], (), Camera((0, 1, 3), (0, 0, 0), 45.0, 64))
    with pytest.raises(InputError, match="255"):
        renderer.draw([Item(floor(), np.eye(4))] * 256, (), CAMERA)
    with pytest.raises(ConfigError, match="8 pixels"):
        Renderer(4)


def test_an_optimiser_can_be_made_behind_a_renderer(egl: None) -> None:
    """Triton's LLVM must be there before Mesa's: the other order ends the process."""
    code = (
        "from midsight.data.scenes.render import Renderer; Renderer(16).close()\n"
        "import torch; torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step(); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "alive", done.stderr[-500:]
