"""Loaded models have their true size and stand on the floor; colours have everyday names."""

from dataclasses import replace

import numpy as np
import pytest

from midsight.data.scenes import FurnitureModel
from midsight.data.scenes.meshes import COLOURS, colour_name, load_mesh, main_colour, top_at
from midsight.errors import InputError, MediaError


def test_size_foot_and_triangles(models: list[FurnitureModel]) -> None:
    for model in models:
        mesh = load_mesh(model)
        corners = mesh.triangles().reshape(-1, 3)
        np.testing.assert_allclose(corners.max(0) - corners.min(0), model.size, rtol=1e-5)
        np.testing.assert_allclose(corners.min(0), (-model.size[0] / 2, 0, -model.size[2] / 2), atol=1e-6)
        lengths = np.linalg.norm(mesh.parts[0].vertices[:, 3:6], axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_texture_and_colour(models: list[FurnitureModel]) -> None:
    chair, table = load_mesh(models[0]).parts[0], load_mesh(models[1]).parts[0]
    assert chair.texture is None
    np.testing.assert_allclose(chair.colour, np.array((200, 30, 30)) / 255, atol=0.01)
    assert table.texture is not None
    assert table.texture.shape == (64, 64, 4)


def test_rotation_comes_before_scaling(models: list[FurnitureModel]) -> None:
    lying = replace(models[3], rotation=(1, 0, 0, 0, 0, 1, 0, -1, 0))
    corners = load_mesh(lying).triangles().reshape(-1, 3)
    np.testing.assert_allclose(corners.max(0) - corners.min(0), lying.size, rtol=1e-5)


def test_the_top_is_the_highest_surface(models: list[FurnitureModel]) -> None:
    table, ball = load_mesh(models[1]), load_mesh(models[2])
    assert top_at(table, 0.5, 0.4) == pytest.approx(0.72)
    assert top_at(table, 0.7, 0.0) is None
    assert top_at(ball, 0.0, 0.0) == pytest.approx(0.25, abs=1e-3)
    side = top_at(ball, 0.06, 0.0)
    assert side == pytest.approx(0.125 + (0.125**2 - 0.06**2) ** 0.5, abs=2e-3)  # of a sphere


def test_every_named_colour_is_called_by_its_name() -> None:
    for name, (red, green, blue) in COLOURS.items():
        assert colour_name((red / 255, green / 255, blue / 255)) == name


def test_the_main_colour_needs_two_thirds() -> None:
    pixels = np.array([COLOURS["red"]] * 7 + [COLOURS["blue"]] * 3, dtype=np.uint8)
    assert main_colour(pixels) == "red"
    assert main_colour(pixels[2:]) is None
    with pytest.raises(InputError, match="no pixels"):
        main_colour(pixels[:0])


def test_broken_models_are_refused(models: list[FurnitureModel]) -> None:
    broken = models[0].path.with_name("broken.obj")
    for text in ("", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "v 1 2\nf 1 2 9\n", "v 0 0 0\n"):
        broken.write_text(text)
        with pytest.raises(MediaError, match="broken.obj"):
            load_mesh(replace(models[0], path=broken))
    with pytest.raises(MediaError, match="missing.obj"):
        load_mesh(replace(models[0], path=broken.with_name("missing.obj")))
