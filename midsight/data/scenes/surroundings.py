"""Floors, walls and skies: textured by pictures, or by patterns drawn from a seed."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from midsight.data.scenes.layout import Scene
from midsight.data.scenes.meshes import Bytes, Mesh, Part
from midsight.data.scenes.render import Item

TextureOf = Callable[[Path], Bytes]
_GROUND = 120.0  # metres: half the side of the ground outdoors
PATTERNS = 128  # different ones of each kind
_GROUNDS = ((95, 135, 60), (200, 180, 140), (130, 100, 70), (110, 110, 112))  # grass, sand, earth, asphalt


def surroundings(scene: Scene, texture_of: TextureOf) -> list[Item]:
    """The floor, and in a room its walls and ceiling, as items with fresh meshes.

    Raises:
        MediaError: a texture cannot be read (from `texture_of`).
    """
    tile = max(0.4, 0.3 * float(np.linalg.norm(np.subtract(scene.camera.position, scene.camera.target))))
    floor = (
        pattern(scene.pattern % PATTERNS, scene.place == "outdoors") if scene.floor is None else texture_of(scene.floor)
    )
    if scene.place == "outdoors":
        return [Item(_floor(_GROUND, tile, floor), np.eye(4))]
    wall = pattern(scene.pattern // PATTERNS % PATTERNS) if scene.wall is None else texture_of(scene.wall)
    tallest = max((o.position[1] + o.model.size[1] for o in scene.objects), default=0.0)
    height = max(2.5, tallest + 0.3, scene.camera.position[1] * 1.5 + 0.3)
    return [
        Item(_floor(scene.room, tile, floor), np.eye(4)),
        Item(_walls(scene.room, height, tile, wall), np.eye(4)),
    ]


def sky(scene: Scene, texture_of: TextureOf) -> Bytes | None:
    """What is above the horizon outdoors: the scene's picture or a plain gradient; None in a room."""
    if scene.place == "room":
        return None
    if scene.sky is not None:
        return texture_of(scene.sky)
    return gradient(scene.pattern % PATTERNS)


@lru_cache(maxsize=PATTERNS)
def gradient(seed: int) -> Bytes:
    """A clear sky, RGBA uint8 (64, 8, 4), the horizon first."""
    rng = np.random.default_rng(seed)
    horizon = np.array((225, 232, 240)) - rng.integers(0, 60, 3)
    zenith = np.array((70, 130, 215)) + rng.integers(-50, 30, 3)
    share = np.linspace(0, 1, 64)[:, None] ** 0.6
    rows = np.concatenate([horizon * (1 - share) + zenith * share, np.full((64, 1), 255)], 1)
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], (64, 8, 4)).astype(np.uint8))


@lru_cache(maxsize=2 * PATTERNS)
def pattern(seed: int, natural: bool = False, size: int = 128) -> Bytes:
    """A surface drawn from a seed that repeats without a seam, RGBA uint8 (size, size, 4).

    Speckled, checked or in planks; `natural`: speckled in the colours of grass, sand, earth and asphalt.
    """
    rng = np.random.default_rng(seed)
    first = rng.uniform(60, 235, 3) * 0.6 + rng.uniform(60, 235) * 0.4
    second = np.clip(first + rng.uniform(-50, 50), 20, 245)
    row, column = np.mgrid[:size, :size] * 8 // size
    kind = 0 if natural else rng.integers(3)
    if natural:
        first = np.array(_GROUNDS[rng.integers(len(_GROUNDS))]) + rng.uniform(-20, 20)
    if kind == 0:
        mask = np.zeros((size, size), dtype=bool)
    elif kind == 1:
        mask = (row // 2 + column // 2) % 2 == 1
    else:
        mask = row % 2 == 1
    colour = np.where(mask[..., None], second, first) + rng.normal(0, 14 if natural else 6, (size, size, 1))
    pixels = np.full((size, size, 4), 255, dtype=np.uint8)
    pixels[..., :3] = np.clip(colour, 0, 255)
    return pixels


def _floor(half: float, tile: float, texture: Bytes) -> Mesh:
    return _quads([[(-half, 0, -half), (-half, 0, half), (half, 0, half), (half, 0, -half)]], tile, texture)


def _walls(half: float, height: float, tile: float, texture: Bytes) -> Mesh:
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    quads = []
    for (x, z), (u, w) in zip(corners, corners[1:] + corners[:1], strict=True):
        quads.append([(x, 0.0, z), (u, 0.0, w), (u, height, w), (x, height, z)])
    walls = _quads(quads, tile, texture)
    ceiling = _quads([[(x, height, z) for x, z in corners]], tile, None)
    return Mesh((*walls.parts, *ceiling.parts))


def _quads(quads: list[list[tuple[float, float, float]]], tile: float, texture: Bytes | None) -> Mesh:
    """Rectangles as two triangles each, the texture once every `tile` metres, the normal from the corners."""
    rows = []
    for quad in quads:
        points = np.array(quad)
        along, across = points[1] - points[0], points[3] - points[0]
        normal = np.cross(along, across)
        normal /= np.linalg.norm(normal)
        u = (points - points[0]) @ (along / np.linalg.norm(along)) / tile
        v = (points - points[0]) @ (across / np.linalg.norm(across)) / tile
        corners = np.hstack([points, np.tile(normal, (4, 1)), u[:, None], v[:, None]])
        rows.append(corners[[0, 1, 2, 0, 2, 3]])
    return Mesh((Part(np.concatenate(rows).astype("f4"), (0.88, 0.88, 0.86), texture),))
