"""A pinhole camera and its paths. Conventions of OpenCV: x right, y down, z forward; pixel centres at + 0.5.

The world has y up, metres, the floor at y = 0.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from midsight.errors import ConfigError

Array = npt.NDArray[np.float64]
Point = tuple[float, float, float]

# how the captions say it; "still" has no caption
MOVES = {
    "still": "",
    "pan left": "the camera pans to the left",
    "pan right": "the camera pans to the right",
    "tilt up": "the camera tilts up",
    "tilt down": "the camera tilts down",
    "orbit left": "the camera circles to the left",
    "orbit right": "the camera circles to the right",
    "track left": "the camera moves sideways to the left",
    "track right": "the camera moves sideways to the right",
    "closer": "the camera moves closer",
    "away": "the camera moves away",
    "rise": "the camera rises",
    "sink": "the camera sinks",
    "zoom in": "the camera zooms in",
    "zoom out": "the camera zooms out",
}


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and looks. A square picture, the principal point in its middle."""

    position: Point
    target: Point
    fov: float  # degrees across the picture
    size: int  # side of the picture, pixels

    def __post_init__(self) -> None:
        if not 1 <= self.fov <= 150:
            raise ConfigError(f"fov must be 1 to 150 degrees, got {self.fov}")
        if self.size < 8:
            raise ConfigError(f"size must be at least 8 pixels, got {self.size}")
        if math.dist((self.position[0], self.position[2]), (self.target[0], self.target[2])) < 1e-6:
            raise ConfigError(f"the camera at {self.position} looks straight up or down; move its target {self.target}")

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.size / 2 / math.tan(math.radians(self.fov) / 2)

    def intrinsics(self) -> Array:
        """K, float64 (3, 3)."""
        half = self.size / 2
        return np.array([[self.focal, 0, half], [0, self.focal, half], [0, 0, 1]])

    def world_to_camera(self) -> Array:
        """Rigid motion, float64 (4, 4)."""
        position, target = np.array(self.position), np.array(self.target)
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, (0.0, 1.0, 0.0))
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        matrix[:3, 3] = -matrix[:3, :3] @ position
        return matrix

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels (N, 2) and depth in metres (N,) of world points (N, 3). A depth at or below 0 lies behind."""
        matrix = self.world_to_camera()
        seen = points @ matrix[:3, :3].T + matrix[:3, 3]
        z = seen[:, 2]
        safe = np.where(np.abs(z) < 1e-9, 1e-9, z)
        return seen[:, :2] / safe[:, None] * self.focal + self.size / 2, z

    def unproject(self, pixels: Array, depth: Array) -> Array:
        """World points (N, 3) of pixel positions (N, 2) with depth in metres (N,)."""
        seen = np.concatenate([(pixels - self.size / 2) / self.focal, np.ones((len(pixels), 1))], 1) * depth[:, None]
        matrix = self.world_to_camera()
        return (seen - matrix[:3, 3]) @ matrix[:3, :3]


def camera_path(start: Camera, move: str, frames: int, amount: float = 1.0) -> list[Camera]:
    """The cameras of a clip that begins at `start`.

    Args:
        move: one of `MOVES`.
        frames: how many, at least 1.
        amount: 1 turns by a quarter of the field of view, circles by 25 degrees, or goes a fifth of the distance.

    Raises:
        ConfigError: an unknown move, or no frames.
    """
    if move not in MOVES:
        raise ConfigError(f"{move!r} is not a camera move; known are {', '.join(MOVES)}")
    if frames < 1:
        raise ConfigError(f"a camera path needs at least 1 frame, got {frames}")
    return [_moved(start, move, amount * k / max(frames - 1, 1)) for k in range(frames)]


def _moved(start: Camera, move: str, t: float) -> Camera:
    position, target = np.array(start.position), np.array(start.target)
    ahead = target - position
    kind, _, side = move.partition(" ")
    sign = -1.0 if side in ("left", "up", "in") or move in ("closer", "rise") else 1.0
    if kind == "pan":
        target = position + _turned(ahead, -sign * math.radians(start.fov) / 4 * t)
    elif kind == "tilt":
        target = target + (0, -sign * math.tan(math.radians(start.fov) / 6) * np.linalg.norm(ahead) * t, 0)
    elif kind == "orbit":
        position = target - _turned(ahead, sign * math.radians(25) * t)
    elif kind == "track":
        right = np.cross(ahead, (0.0, 1.0, 0.0))
        step = sign * right / np.linalg.norm(right) * np.linalg.norm(ahead) / 5 * t
        position, target = position + step, target + step
    elif kind in ("closer", "away"):
        position = position - sign * ahead / 5 * t
    elif kind in ("rise", "sink"):
        step = np.array((0.0, -sign * max(position[1], 0.5) / 3 * t, 0.0))
        position, target = position + step, target + step
    elif kind == "zoom":
        return replace(start, fov=start.fov * (1 + sign * 0.25 * t))
    return replace(start, position=_point(position), target=_point(target))


def _turned(vector: Array, angle: float) -> Array:
    """Turned about the vertical; a positive angle turns to the left, seen from above."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array((cos * vector[0] + sin * vector[2], vector[1], -sin * vector[0] + cos * vector[2]))


def _point(vector: Array) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])
