"""What stands where: a scene drawn from a seed. Pure geometry and choice; nothing is rendered here.

Scene `index` of seed `seed` is the same whatever else is drawn before it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from midsight.data.scenes.camera import MOVES, Array, Camera
from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.meshes import COLOURS, Mesh, top_at
from midsight.errors import ConfigError, InputError

MOTIONS = {
    "left": "{} slides to the left",
    "right": "{} slides to the right",
    "nearer": "{} comes nearer",
    "away": "{} moves away",
    "turn": "{} turns around",
}
_SUPPORT = ("table", "desk", "cabinet", "coffee table", "bedside table", "workbench", "TV stand", "chest of drawers")
_NEVER_PAINTED = ("Characters", "Exterior")
_PAINTED = (
    "chair", "armchair", "sofa", "table", "desk", "cabinet", "stool", "bench", "bookcase", "wardrobe", "shelves", "car",
    "van", "truck", "bus", "bicycle", "scooter", "motorbike", "box", "vase", "bowl", "bottle", "suitcase", "pouf",
    "lamp", "desk lamp", "coffee table", "bedside table", "trash can", "bucket", "teapot", "coffee cup", "cup", "book",
    "dresser", "bar stool", "umbrella", "helmet", "barrel", "crate", "plate", "pan", "bed",
)  # fmt: skip
_FLAT = 0.06  # metres: lower things (plates, rugs) do not stand on the floor
_SMALL = 0.45  # metres: the largest side of what stands on something

MeshOf = Callable[[FurnitureModel], Mesh]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class SceneOptions:
    """How scenes are drawn."""

    size: int = 224  # side of the picture, pixels
    least_objects: int = 1
    most_objects: int = 6
    outdoors: float = 0.35  # share of scenes under the sky
    painted: float = 0.4  # share of paintable objects that are painted in a named colour
    twins: float = 0.3  # chance that an object is one more of the one before
    frames: int = 16  # of a clip
    frame_rate: int = 8  # of a clip, per second

    def __post_init__(self) -> None:
        if not 1 <= self.least_objects <= self.most_objects <= 16:
            raise ConfigError(f"1 to 16 objects, least {self.least_objects} to most {self.most_objects}: not a range")
        for name in ("outdoors", "painted", "twins"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be a share from 0 to 1, got {getattr(self, name)}")
        if self.size < 32 or self.frames < 2 or self.frame_rate < 1:
            raise ConfigError(f"size 32, 2 frames and 1 frame a second at least; got {self}")


@dataclass(frozen=True)
class Placed:
    """One object of a scene."""

    model: FurnitureModel
    position: Point  # of the middle of its foot, metres
    yaw: float  # radians about the vertical
    paint: str | None = None  # one of `COLOURS`
    on: int | None = None  # index of the object it stands on
    motion: str | None = None  # one of `MOTIONS`
    step: Point = (0.0, 0.0, 0.0)  # how far it goes over the clip, metres
    turn: float = 0.0  # how far it turns over the clip, radians

    def pose(self, t: float) -> Array:
        """Mesh to world, float64 (4, 4), at time t in [0, 1] of the clip."""
        angle = self.yaw + self.turn * t
        cos, sin = math.cos(angle), math.sin(angle)
        x, y, z = (a + t * b for a, b in zip(self.position, self.step, strict=True))
        return np.array([[cos, 0, sin, x], [0, 1, 0, y], [-sin, 0, cos, z], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Scene:
    """Objects, surroundings, light and the camera at the start."""

    objects: tuple[Placed, ...]
    place: Literal["room", "outdoors"]
    floor: Path | None  # texture; None is a drawn pattern
    wall: Path | None
    sky: Path | None
    pattern: int  # seed of the drawn patterns
    room: float  # half the side of the square room, metres
    sun: Point
    camera: Camera
    move: str  # of the camera, one of `MOVES`

    def without(self, gone: Sequence[int]) -> "Scene":
        """The same scene without the objects of these indices; who stood on them goes too."""
        dropped = set(gone)
        while more := {k for k, o in enumerate(self.objects) if o.on in dropped and k not in dropped}:
            dropped |= more
        kept = [k for k in range(len(self.objects)) if k not in dropped]
        renumbered = {old: new for new, old in enumerate(kept)}
        objects = (self.objects[k] for k in kept)
        return replace(self, objects=tuple(replace(o, on=None if o.on is None else renumbered[o.on]) for o in objects))


@dataclass(frozen=True)
class Stock:
    """What scenes are made of; the order matters."""

    models: tuple[FurnitureModel, ...]
    surfaces: tuple[Path, ...] = ()  # pictures for floors and walls
    grounds: tuple[Path, ...] = ()  # pictures for the ground outdoors
    skies: tuple[Path, ...] = ()  # panoramas or photographs
    credits: tuple[str, ...] = ()  # whose surfaces and skies these are, one line each

    def __post_init__(self) -> None:
        if not any(stands(model) for model in self.models):
            raise InputError(f"none of {len(self.models)} models can stand on a floor; give some of 0.1 to 7 metres")


def draw_scene(
    stock: Stock, mesh_of: MeshOf, seed: int, index: int, options: SceneOptions, clip: bool, attempt: int = 0
) -> Scene:
    """Scene `index` of `seed`.

    Args:
        mesh_of: gives a model's mesh; only asked for what carries something, to find its top.
        clip: with a camera move or a moving object, or both.
        attempt: another scene in its place, where the one before turned out to show nothing.

    Raises:
        MediaError: a model's mesh cannot be loaded.
    """
    rng = np.random.default_rng((seed, index, int(clip), attempt))
    outdoors = bool(rng.random() < options.outdoors)
    chosen = _choose(stock, rng, options, outdoors)
    placed = _place(chosen, rng, options)
    placed = _put_on(placed, stock, mesh_of, rng, outdoors) if len(placed) < options.most_objects else placed
    camera = _camera(placed, rng, options.size, outdoors)
    move = "still"
    if clip:
        kind = rng.integers(3)  # the camera moves, objects move, both
        if kind != 1:
            move = str(rng.choice([name for name in MOVES if name != "still"]))
        if kind != 0:
            placed = _set_in_motion(placed, camera, rng)
    reach = max(math.hypot(o.position[0], o.position[2]) + o.model.radius for o in placed)
    room = max(math.hypot(camera.position[0], camera.position[2]), reach) * 1.3 + 1.0
    floor = _pick(stock.grounds if outdoors else stock.surfaces, rng)
    wall, above = _pick(stock.surfaces, rng), _pick(stock.skies, rng)
    drawn = int(rng.integers(2**31))
    sun = (float(rng.uniform(-0.7, 0.7)), 0.8, float(rng.uniform(-0.7, 0.7)))
    place: Literal["room", "outdoors"] = "outdoors" if outdoors else "room"
    return Scene(tuple(placed), place, floor, wall, above, drawn, room, sun, camera, move)


def _pick(paths: Sequence[Path], rng: np.random.Generator) -> Path | None:
    """One of the pictures, or, in a fifth of the scenes, none: then a pattern is drawn."""
    return paths[int(rng.integers(len(paths)))] if rng.random() < 0.8 and paths else None


def stands(model: FurnitureModel) -> bool:
    """Whether a model can stand alone: neither a sheet, nor a crumb, nor a house."""
    return model.size[1] > _FLAT and 0.1 <= max(model.size) <= 7


def _choose(stock: Stock, rng: np.random.Generator, options: SceneOptions, outdoors: bool) -> list[Placed]:
    """Models of like size, some of them more than once, some of them painted."""
    standing = [m for m in stock.models if stands(m) and (outdoors or not m.outdoors)]
    standing = standing or [m for m in stock.models if stands(m)]
    first = standing[rng.integers(len(standing))]
    like = [m for m in standing if 0.4 < max(m.size) / max(first.size) < 2.5]
    count = int(rng.integers(options.least_objects, options.most_objects + 1))
    placed: list[Placed] = []
    while len(placed) < count:
        twin = bool(placed) and rng.random() < options.twins
        model = placed[-1].model if twin else (first if not placed else like[rng.integers(len(like))])
        placed.append(Placed(model, (0, 0, 0), 0.0, _paint(model, rng, options, placed[-1] if twin else None)))
    return placed


def _paint(
    model: FurnitureModel, rng: np.random.Generator, options: SceneOptions, twin_of: Placed | None
) -> str | None:
    if twin_of is not None and rng.random() < 0.5:
        return twin_of.paint
    paintable = model.category not in _NEVER_PAINTED and model.name in _PAINTED
    return str(rng.choice(list(COLOURS))) if paintable and rng.random() < options.painted else None


def _place(objects: list[Placed], rng: np.random.Generator, options: SceneOptions) -> list[Placed]:
    """Positions on the floor where no two footprints touch; the disc grows until they fit."""
    placed: list[Placed] = []
    reach = 0.35 * sum(o.model.radius for o in objects)
    for o in objects:
        position = (0.0, 0.0)
        while True:
            angle, distance = rng.uniform(0, 2 * math.pi), reach * math.sqrt(rng.random())
            position = (distance * math.cos(angle), distance * math.sin(angle))
            gaps = (
                math.dist(position, (p.position[0], p.position[2])) - 1.05 * (o.model.radius + p.model.radius)
                for p in placed
            )
            if all(gap > 0 for gap in gaps):
                break
            reach *= 1.02
        yaw = float(rng.uniform(-math.pi, math.pi))
        placed.append(replace(o, position=(position[0], 0.0, position[1]), yaw=yaw))
    return placed


def _put_on(
    placed: list[Placed], stock: Stock, mesh_of: MeshOf, rng: np.random.Generator, outdoors: bool
) -> list[Placed]:
    """Puts one small thing on the first table or the like whose top is flat and high enough."""
    small = [m for m in stock.models if max(m.size) <= _SMALL and min(m.size) > 0.03 and not m.outdoors]
    tables = [k for k, o in enumerate(placed) if o.model.name in _SUPPORT and o.model.size[1] < 1.3]
    if not small or not tables or outdoors:
        return placed
    carrier = placed[tables[0]]
    room = min(carrier.model.size[0], carrier.model.size[2])
    fitting = [m for m in small if m.radius * 2 < 0.6 * room and m.name != carrier.model.name]
    if not fitting:
        return placed
    model = fitting[rng.integers(len(fitting))]
    mesh, reach = mesh_of(carrier.model), model.radius
    heights = [top_at(mesh, x, z) for x in (-reach, 0.0, reach) for z in (-reach, 0.0, reach)]
    tops = [height for height in heights if height is not None]
    if len(tops) < len(heights) or max(tops) - min(tops) > 0.01 or min(tops) < 0.25:
        return placed
    position = (carrier.position[0], max(tops) + 1e-3, carrier.position[2])
    return [*placed, Placed(model, position, float(rng.uniform(-math.pi, math.pi)), on=tables[0])]


def _camera(placed: Sequence[Placed], rng: np.random.Generator, size: int, outdoors: bool) -> Camera:
    """Looks at the middle of the group from outside of it, so far away that the group fills the picture."""
    middles = np.array([np.add(o.position, (0, o.model.size[1] / 2, 0)) for o in placed])
    radii = np.array([math.hypot(o.model.radius, o.model.size[1] / 2) for o in placed])
    middle = (middles.min(0) + middles.max(0)) / 2
    radius = float((np.linalg.norm(middles - middle, axis=1) + radii).max())
    fov = float(rng.uniform(38, 58))
    distance = radius / math.sin(math.radians(fov) / 2) * float(rng.uniform(0.68, 1.0)) + 0.05
    bearing = float(rng.uniform(-math.pi, math.pi))
    pitch = math.radians(float(rng.uniform(5, 20) if outdoors else rng.uniform(10, 32)))
    flat = distance * math.cos(pitch)
    position = middle + (flat * math.sin(bearing), distance * math.sin(pitch), flat * math.cos(bearing))
    return Camera(_point(position), _point(middle), fov, size)


def _set_in_motion(placed: Sequence[Placed], camera: Camera, rng: np.random.Generator) -> list[Placed]:
    """One object that neither carries nor stands on another slides or turns, told from the camera's starting view."""
    carriers = {o.on for o in placed}
    free = [k for k, o in enumerate(placed) if o.on is None and k not in carriers]
    if not free:
        return list(placed)
    matrix = camera.world_to_camera()
    right, ahead = matrix[0, :3], matrix[2, :3] * (1, 0, 1)
    ahead = ahead / np.linalg.norm(ahead)
    directions = {"left": -right, "right": right, "nearer": -ahead, "away": ahead}
    length = 0.5 * math.dist(camera.position, camera.target) * math.tan(math.radians(camera.fov) / 2)
    chosen, motion = free[rng.integers(len(free))], str(rng.choice(list(MOTIONS)))
    step = _point(directions[motion] * length) if motion in directions else (0.0, 0.0, 0.0)
    others = [o for k, o in enumerate(placed) if k != chosen and o.on is None]
    if any(_collides(placed[chosen], step, other) for other in others):
        motion, step = "turn", (0.0, 0.0, 0.0)
    turn = float(rng.choice((-1, 1)) * rng.uniform(1.6, 3.1)) if motion == "turn" else 0.0
    moved = replace(placed[chosen], motion=motion, step=step, turn=turn)
    return [moved if k == chosen else o for k, o in enumerate(placed)]


def _collides(mover: Placed, step: Point, other: Placed) -> bool:
    """Whether the circles around the two footprints meet somewhere on the way."""
    start = np.array((mover.position[0] - other.position[0], mover.position[2] - other.position[2]))
    way = np.array((step[0], step[2]))
    nearest = float(np.clip(-(start @ way) / max(float(way @ way), 1e-12), 0, 1))
    return float(np.linalg.norm(start + nearest * way)) < mover.model.radius + other.model.radius


def _point(vector: Array) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])
