"""Meshes of the models: loaded from OBJ, scaled to metres, standing on y = 0; and what their surface is like."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.data.scenes.catalogue import FurnitureModel
from midsight.errors import InputError, MediaError, MidsightError, MissingDependencyError
from midsight.images import load_image

MAX_BYTES = 6_000_000  # of an OBJ file: larger ones have above a hundred thousand triangles
MAX_TEXTURE = 512  # pixels a side

COLOURS = {
    "red": (200, 30, 30), "orange": (240, 130, 20), "yellow": (240, 215, 40), "green": (50, 150, 50),
    "blue": (40, 80, 200), "purple": (125, 50, 170), "pink": (245, 140, 180), "brown": (120, 75, 40),
    "beige": (222, 200, 165), "black": (30, 30, 30), "white": (240, 240, 240), "grey": (130, 130, 130),
}  # fmt: skip

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """Triangles with one material."""

    vertices: Floats  # (3 * triangles, 8): position in metres, normal, texture coordinates
    colour: tuple[float, float, float]  # RGB in [0, 1]; multiplies nothing where there is a texture
    texture: Bytes | None  # (H, W, 4) RGBA, first row at the bottom, as OpenGL wants it


@dataclass(frozen=True)
class Mesh:
    """A model at its true size: x and z centred, the lowest point at y = 0."""

    parts: tuple[Part, ...]

    @cached_property
    def radius(self) -> float:
        """Of the circle around the foot that holds all of it, seen from above, metres."""
        return max(float(np.linalg.norm(part.vertices[:, [0, 2]], axis=1).max()) for part in self.parts)

    def triangles(self) -> Floats:
        """Corner positions, float32 (triangles, 3, 3)."""
        return np.concatenate([part.vertices[:, :3] for part in self.parts]).reshape(-1, 3, 3)


def load_mesh(model: FurnitureModel) -> Mesh:
    """The model's OBJ file with its materials and textures.

    Raises:
        MediaError: the file is missing, too large, has no triangles, or a flat side that cannot be scaled.
        MissingDependencyError: trimesh is not installed.
    """
    parts = [(vertices @ np.array(model.rotation).reshape(3, 3).T, *rest) for vertices, *rest in _triangles(model.path)]
    corners = np.concatenate([vertices for vertices, *_ in parts])
    low, high = corners.min(0), corners.max(0)
    if not np.isfinite(corners).all() or (high - low).min() <= 0:
        raise MediaError(f"{model.path}: its extent is {high - low}; expected a solid model with finite corners.")
    scale = np.array(model.size) / (high - low)
    foot = np.array(((low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2))
    scaled = []
    for vertices, normals, uv, colour, texture in parts:
        turned = normals @ np.array(model.rotation).reshape(3, 3).T / scale
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
        scaled.append(Part(np.hstack([(vertices - foot) * scale, turned, uv]).astype("f4"), colour, texture))
    return Mesh(tuple(scaled))


def top_at(mesh: Mesh, x: float, z: float) -> float | None:
    """Height of the highest surface above the point (x, z) of the mesh's own footprint; None beside the mesh."""
    t = mesh.triangles().astype(np.float64)
    a, b, c = t[:, 0], t[:, 1], t[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 2] - a[:, 2]) - (c[:, 0] - a[:, 0]) * (b[:, 2] - a[:, 2])
    flat = np.abs(area) > 1e-12
    safe = np.where(flat, area, 1.0)
    v = ((x - a[:, 0]) * (c[:, 2] - a[:, 2]) - (c[:, 0] - a[:, 0]) * (z - a[:, 2])) / safe
    w = ((b[:, 0] - a[:, 0]) * (z - a[:, 2]) - (x - a[:, 0]) * (b[:, 2] - a[:, 2])) / safe
    hit = flat & (v >= 0) & (w >= 0) & (v + w <= 1)
    heights = a[:, 1] + v * (b[:, 1] - a[:, 1]) + w * (c[:, 1] - a[:, 1])
    return float(heights[hit].max()) if hit.any() else None


def colour_name(rgb: tuple[float, float, float]) -> str:
    """The everyday name of an sRGB colour in [0, 1]: one of `COLOURS`, by hue, saturation and lightness."""
    return str(_names(np.array([rgb], dtype=np.float64))[0])


def main_colour(pixels: Bytes, share: float = 2 / 3) -> str | None:
    """The colour name of at least `share` of the pixels, uint8 (N, 3); None where there is no such name.

    Raises:
        InputError: no pixels.
    """
    if not len(pixels):
        raise InputError("no pixels to name the colour of; expected uint8 (N, 3) with N at least 1")
    names, counts = np.unique(_names(pixels / 255.0), return_counts=True)
    return str(names[counts.argmax()]) if counts.max() >= share * len(pixels) else None


def _names(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    high, low = rgb.max(1), rgb.min(1)
    span = np.maximum(high - low, 1e-9)
    red, green, blue = rgb.T
    hue = np.where(
        high == red,
        (green - blue) / span % 6,
        np.where(high == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    hue = hue * 60
    saturation = span / np.maximum(high, 1e-9)
    wheel = [(12, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (258, "blue"), (295, "purple"), (345, "pink")]
    bounds, labels = np.array([bound for bound, _ in wheel]), np.array([label for _, label in wheel] + ["red"])
    names = labels[np.searchsorted(bounds, hue)]
    warm = (hue >= 12) & (hue < 55)
    names = np.where(
        warm & ((high < 0.72) | (saturation < 0.62)),
        np.where((high > 0.7) & (saturation < 0.5), "beige", "brown"),
        names,
    )
    names = np.where(((hue < 12) | (hue >= 345)) & (saturation < 0.6) & (high > 0.75), "pink", names)
    dull = (saturation < 0.16) | (high < 0.24)
    grey = np.where(high < 0.24, "black", np.where(high > 0.8, "white", "grey"))
    return np.where(dull, grey, names)


def _triangles(
    path: Path,
) -> list[
    tuple[
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        tuple[float, float, float],
        Bytes | None,
    ]
]:
    try:
        import trimesh
    except ImportError as error:
        raise MissingDependencyError("trimesh is not installed: pip install 'midsight[scenes]'") from error
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise MediaError(f"{path}: {size} bytes; models of at most {MAX_BYTES} bytes are rendered.")
        scene = trimesh.load_scene(path, process=False)
        meshes = [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)]
    except MidsightError:
        raise
    except Exception as error:  # a foreign parser on foreign bytes: it raises whatever it meets
        raise MediaError(f"{path}: cannot be read as an OBJ model ({type(error).__name__}: {error}).") from error
    if not meshes:
        raise MediaError(f"{path}: holds no triangles. Expected an OBJ model.")
    parts = []
    for mesh in meshes:
        faces = mesh.faces.reshape(-1)
        uv = getattr(mesh.visual, "uv", None)
        colour, texture = _material(mesh, path)
        if uv is None or len(uv) != len(mesh.vertices):
            uv, texture = np.zeros((len(mesh.vertices), 2)), None
        parts.append((mesh.vertices[faces], mesh.vertex_normals[faces], np.asarray(uv)[faces], colour, texture))
    return parts


def _material(mesh: object, path: Path) -> tuple[tuple[float, float, float], Bytes | None]:
    material = getattr(getattr(mesh, "visual", None), "material", None)
    diffuse = np.asarray(getattr(material, "diffuse", (153, 153, 153, 255)), dtype=np.float64).reshape(-1)[:3] / 255
    image = getattr(material, "image", None)
    texture = None
    if image is not None:
        texture = _fitted(image)
    return (float(diffuse[0]), float(diffuse[1]), float(diffuse[2])), texture


def read_texture(path: Path) -> Bytes:
    """A surface picture as RGBA, its sides powers of two up to `MAX_TEXTURE`, first row at the bottom.

    Raises:
        MediaError: it cannot be read.
    """
    return _fitted(Image.fromarray(load_image(path, reduced_to=MAX_TEXTURE)))


def _fitted(image: Image.Image) -> Bytes:
    """Stretched to sides that are powers of two, so that every smaller level halves exactly."""
    width, height = (min(2 ** round(math.log2(max(side, 1))), MAX_TEXTURE) for side in image.size)
    return np.ascontiguousarray(np.asarray(image.convert("RGBA").resize((width, height)))[::-1])
