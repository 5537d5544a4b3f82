"""Scenes are the same for the same seed and index, and nothing stands in anything else."""

import itertools
import math

import numpy as np
import pytest

from midsight.data.scenes import FurnitureModel, SceneOptions, Stock
from midsight.data.scenes.camera import MOVES
from midsight.data.scenes.layout import MOTIONS, Scene, draw_scene
from midsight.data.scenes.meshes import load_mesh, top_at
from midsight.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def scenes(stock: Stock, options: SceneOptions) -> list[Scene]:
    return [draw_scene(stock, load_mesh, 3, index, options, clip=True) for index in range(40)]


def test_seed_and_index_alone_decide(stock: Stock, options: SceneOptions, scenes: list[Scene]) -> None:
    assert draw_scene(stock, load_mesh, 3, 17, options, clip=True) == scenes[17]
    assert draw_scene(stock, load_mesh, 4, 17, options, clip=True) != scenes[17]
    assert draw_scene(stock, load_mesh, 3, 17, options, clip=True, attempt=1) != scenes[17]
    assert len({scene.camera for scene in scenes}) == len(scenes)


def test_footprints_never_touch_also_when_they_move(scenes: list[Scene]) -> None:
    for scene in scenes:
        for a, b in itertools.combinations([o for o in scene.objects if o.on is None], 2):
            for t in (0.0, 0.25, 0.5, 0.75, 1.0):
                gap = math.dist(a.pose(t)[[0, 2], 3], b.pose(t)[[0, 2], 3])
                assert gap >= a.model.radius + b.model.radius - 1e-9


def test_things_stand_on_the_top_of_what_carries_them(scenes: list[Scene]) -> None:
    carried = [(scene, o) for scene in scenes for o in scene.objects if o.on is not None]
    assert carried
    for scene, o in carried:
        assert o.on is not None
        carrier = scene.objects[o.on]
        top = top_at(load_mesh(carrier.model), 0, 0)
        assert top is not None
        assert 0 < o.position[1] - top < 0.01
        assert (o.position[0], o.position[2]) == (carrier.position[0], carrier.position[2])
        assert carrier.motion is None
    assert all(o.position[1] == 0 for scene in scenes for o in scene.objects if o.on is None)


def test_everything_occurs(scenes: list[Scene]) -> None:
    assert {scene.place for scene in scenes} == {"room", "outdoors"}
    assert len({scene.move for scene in scenes}) > len(MOVES) / 2
    assert {o.motion for scene in scenes for o in scene.objects} - {None} <= set(MOTIONS)
    assert any(o.paint for scene in scenes for o in scene.objects)
    assert {len(scene.objects) for scene in scenes} >= {1, 2, 3, 4, 5}
    assert all(len(scene.objects) <= 5 for scene in scenes)


def test_room_holds_camera_and_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        reach = [scene.camera.position, *(o.position for o in scene.objects)]
        assert max(max(abs(x), abs(z)) for x, _, z in reach) < scene.room


def test_motions_go_where_they_say(scenes: list[Scene]) -> None:
    seen = set()
    for scene in scenes:
        for o in (o for o in scene.objects if o.motion):
            pixels, depth = scene.camera.project(np.array([o.pose(0)[:3, 3], o.pose(1)[:3, 3]]))
            seen.add(o.motion)
            if o.motion in ("left", "right"):
                assert (pixels[1, 0] - pixels[0, 0]) * (1 if o.motion == "right" else -1) > 5
            elif o.motion in ("nearer", "away"):
                assert (depth[1] - depth[0]) * (1 if o.motion == "away" else -1) > 0.05
            else:
                assert abs(o.turn) > 1.5
    assert seen == set(MOTIONS)


def test_without_keeps_who_stands_on_what(scenes: list[Scene]) -> None:
    scene = next(s for s in scenes if len(s.objects) > 2 and s.objects[-1].on == 1)
    fewer = scene.without([0])
    assert fewer.objects[-1].on == 0
    assert fewer.objects[0] == scene.objects[1]
    assert len(scene.without([1]).objects) == len(scene.objects) - 2


def test_odd_options_are_refused(models: list[FurnitureModel]) -> None:
    with pytest.raises(ConfigError, match="least 3 to most 2"):
        SceneOptions(least_objects=3, most_objects=2)
    with pytest.raises(ConfigError, match="painted"):
        SceneOptions(painted=1.5)
    with pytest.raises(ConfigError, match="2 frames"):
        SceneOptions(frames=1)
    with pytest.raises(InputError, match="none of 0"):
        Stock(())
