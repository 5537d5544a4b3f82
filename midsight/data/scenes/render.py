"""One pass gives colour, normals, depth and object ids: OpenGL 3.3 on EGL, with a GPU or Mesa's software renderer.

The picture of S pixels is drawn on a grid of 2 S + 1, laid so that every second sample falls on a pixel's centre: these
samples are the labels, never blended, and the colour is the mean of the 3 x 3 samples around them (1-2-1 weights).
"""

import contextlib
import importlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from midsight.data.scenes.camera import Array, Camera
from midsight.data.scenes.meshes import Bytes, Floats, Mesh
from midsight.errors import ConfigError, InputError, MissingDependencyError

if TYPE_CHECKING:
    import moderngl

MAX_OBJECTS = 255  # ids are bytes, 0 is the surroundings
NEAR, FAR = 0.02, 300.0  # metres
_MAX_SHADOWS = 16

_VERTEX = """
#version 330
uniform mat4 pose, view, projection;
in vec3 position; in vec3 normal; in vec2 uv;
out vec3 seen, facing, world; out vec2 at;
void main() {
    vec4 w = pose * vec4(position, 1.0);
    vec4 s = view * w;
    world = w.xyz; seen = s.xyz; at = uv;
    facing = mat3(view) * mat3(pose) * normal;
    gl_Position = projection * s;
}
"""
_FRAGMENT = """
#version 330
uniform sampler2D picture;
uniform bool textured, painted;
uniform vec3 base, paint, sun, up;
uniform float id;
uniform vec4 shadows[16];
uniform int shadow_count;
in vec3 seen, facing, world; in vec2 at;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 geometry;
layout(location = 2) out vec4 surface;
void main() {
    vec4 albedo = textured ? texture(picture, at) : vec4(base, 1.0);
    if (albedo.a < 0.3) discard;
    if (painted) albedo.rgb = paint * (0.75 + 0.25 * dot(albedo.rgb, vec3(0.3, 0.6, 0.1)));
    vec3 flat_normal = normalize(cross(dFdx(seen), dFdy(seen)));
    vec3 n = dot(facing, facing) > 0.01 ? normalize(facing) : flat_normal;
    if (dot(n, seen) > 0.0) n = -n;
    float light = 0.5 + 0.18 * dot(n, up) + 0.42 * max(dot(n, sun), 0.0);
    if (id == 0.0)
        for (int k = 0; k < shadow_count; ++k) {
            float d = distance(world, shadows[k].xyz) / shadows[k].w;
            light *= 1.0 - 0.45 * (1.0 - smoothstep(0.35, 1.25, d));
        }
    colour = vec4(min(albedo.rgb * light * 1.1, 1.0), id / 255.0);
    geometry = vec4(n.x, -n.y, -n.z, -seen.z);
    surface = vec4(albedo.rgb, 1.0);
}
"""
_SKY_VERTEX = """
#version 330
in vec2 corner;
out vec2 at;
void main() { at = corner; gl_Position = vec4(corner, 0.99999, 1.0); }
"""
_SKY_FRAGMENT = """
#version 330
uniform sampler2D picture;
uniform mat3 to_world;
uniform float reach;
in vec2 at;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 geometry;
layout(location = 2) out vec4 surface;
void main() {
    vec3 d = normalize(to_world * vec3(at * reach, -1.0));
    float turn = atan(d.x, -d.z) / 6.2831853 + 0.5;
    float mirrored = 1.0 - abs(2.0 * turn - 1.0);
    float height = asin(clamp(d.y, -1.0, 1.0)) / 1.5707963;
    colour = vec4(textureLod(picture, vec2(mirrored, clamp(height * 1.2 + 0.05, 0.005, 0.995)), 0.0).rgb, 0.0);
    geometry = vec4(0.0);
    surface = vec4(0.0);
}
"""


@dataclass(frozen=True)
class Item:
    """Something to draw: a mesh, where it is, and whether it is painted over in one colour."""

    mesh: Mesh
    pose: Array  # (4, 4), rigid, mesh to world
    paint: tuple[float, float, float] | None = None  # RGB in [0, 1]


@dataclass(frozen=True)
class Frame:
    """One picture with its exact labels. S is the camera's size."""

    rgb: Bytes  # (S, S, 3)
    ids: Bytes  # (S, S): 0 the surroundings, k the k-th item, counted from 1
    depth: Floats  # (S, S): metres along the viewing axis; 0 where nothing is (the sky)
    normals: Floats  # (S, S, 3): unit vectors in the camera's axes (x right, y down, z forward), towards the camera
    albedo: Bytes  # (S, S, 3): the surface's own colour, before light; one sample a pixel, 0 in the sky
    camera: Camera
    poses: tuple[Array, ...]  # of the items


class Renderer:
    """Draws items at one picture size. Meshes stay on the device, the least used are dropped. Close it, or use `with`.

    Raises:
        MissingDependencyError: moderngl, or EGL's libraries, are not on this machine.
    """

    def __init__(self, size: int, *, kept_meshes: int = 256, kept_textures: int = 1024) -> None:
        if size < 8:
            raise ConfigError(f"size must be at least 8 pixels, got {size}")
        self.size = size
        self._kept, self._kept_textures = kept_meshes, kept_textures
        self._context = _open_context()
        self._context.enable(self._context.DEPTH_TEST)
        grid = 2 * size + 1
        self._colour = self._context.texture((grid, grid), 4)
        self._geometry = self._context.texture((grid, grid), 4, dtype="f4")
        depth = self._context.depth_renderbuffer((grid, grid))
        self._surface = self._context.texture((grid, grid), 4)
        self._target = self._context.framebuffer([self._colour, self._geometry, self._surface], depth)
        self._solid = self._context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._sky = self._context.program(vertex_shader=_SKY_VERTEX, fragment_shader=_SKY_FRAGMENT)
        corners = self._context.buffer(np.array([-1, -1, 3, -1, -1, 3], dtype="f4").tobytes())
        self._sky_triangle = self._context.vertex_array(self._sky, [(corners, "2f", "corner")])
        self._meshes: OrderedDict[int, tuple[Mesh, list[_Loaded]]] = OrderedDict()
        self._textures: OrderedDict[int, tuple[Bytes, moderngl.Texture]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Frees everything on the device."""
        with self._context:
            for _, loaded in self._meshes.values():
                _release(loaded)
            for _, texture in self._textures.values():
                texture.release()
        self._meshes.clear()
        self._textures.clear()
        self._context.release()

    @property
    def device(self) -> str:
        """What draws, in the driver's words."""
        return str(self._context.info["GL_RENDERER"])

    def draw(
        self,
        items: Sequence[Item],
        surroundings: Sequence[Item],
        camera: Camera,
        *,
        sky: Bytes | None = None,
        sun: tuple[float, float, float] = (0.4, 0.8, 0.45),
    ) -> Frame:
        """One frame.

        Args:
            items: objects, at most 255; the k-th gets the id k, from 1.
            surroundings: floor and walls, id 0.
            camera: of this renderer's size.
            sky: uint8 (H, W, 4) RGBA, first row at the horizon; wrapped around twice, mirrored. Black without.
            sun: direction towards the light, in the world.

        Raises:
            InputError: too many items.
            ConfigError: a camera of another size.
        """
        if len(items) > MAX_OBJECTS:
            raise InputError(f"{len(items)} items; one picture holds at most {MAX_OBJECTS}.")
        if camera.size != self.size:
            raise ConfigError(f"the camera makes pictures of {camera.size} pixels, the renderer of {self.size}")
        view = np.diag((1.0, -1.0, -1.0, 1.0)) @ camera.world_to_camera()
        with self._context:  # makes it the current one: there may be other renderers
            self._start(view, camera, sun, items)
            for number, item in enumerate((*surroundings, *items)):
                self._draw_item(item, max(number - len(surroundings) + 1, 0))
            if sky is not None:
                self._draw_sky(sky, view, camera)
            return self._read(camera, tuple(item.pose for item in items))

    def forget(self, meshes: Sequence[Mesh]) -> None:
        """Drops what will not be drawn again, before it pushes out what will."""
        with self._context:
            for mesh in meshes:
                if id(mesh) in self._meshes:
                    _release(self._meshes.pop(id(mesh))[1])

    def areas_alone(self, items: Sequence[Item], camera: Camera) -> list[int]:
        """How many pixels each item would cover if nothing stood before it."""
        view = np.diag((1.0, -1.0, -1.0, 1.0)) @ camera.world_to_camera()
        areas = []
        with self._context:
            for item in items:
                self._start(view, camera, (0.0, 1.0, 0.0), ())
                self._draw_item(item, 1)
                areas.append(int(np.count_nonzero(self._read_colour()[1::2, 1::2, 3])))
        return areas

    def _start(self, view: Array, camera: Camera, sun: tuple[float, float, float], items: Sequence[Item]) -> None:
        self._target.use()
        self._target.clear(0.0, 0.0, 0.0, 0.0)
        self._set_view(view, camera, sun, items)

    def _set_view(self, view: Array, camera: Camera, sun: tuple[float, float, float], items: Sequence[Item]) -> None:
        scale = 4 * camera.focal / (2 * self.size + 1)  # pixel u lies at 2 u + 1/2 of the 2 S + 1 samples
        projection = np.zeros((4, 4))
        projection[0, 0] = projection[1, 1] = scale
        projection[2, 2], projection[2, 3] = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
        projection[3, 2] = -1
        light = np.array(sun) / np.linalg.norm(sun)
        self._write("projection", projection.T)
        self._write("view", view.T)
        self._write("sun", view[:3, :3] @ light)
        self._write("up", view[:3, 1])
        shadows = np.zeros((_MAX_SHADOWS, 4))
        for k, item in enumerate(items[:_MAX_SHADOWS]):
            shadows[k] = (*item.pose[:3, 3], item.mesh.radius)
        self._write("shadows", shadows)
        self._solid["shadow_count"] = min(len(items), _MAX_SHADOWS)

    def _draw_item(self, item: Item, number: int) -> None:
        self._write("pose", item.pose.T)
        self._solid["id"] = float(number)
        self._solid["painted"] = item.paint is not None
        self._write("paint", np.array(item.paint or (0.0, 0.0, 0.0)))
        for loaded in self._loaded(item.mesh):
            self._solid["textured"] = loaded.texture is not None
            self._write("base", np.array(loaded.colour))
            if loaded.texture is not None:
                self._texture(loaded.texture).use(0)
            loaded.array.render()

    def _draw_sky(self, sky: Bytes, view: Array, camera: Camera) -> None:
        self._texture(sky).use(0)
        self._uniform(self._sky, "to_world").write(
            view[:3, :3].astype("f4").tobytes()
        )  # by columns: the transpose, its inverse
        self._sky["reach"] = (2 * self.size + 1) / (4 * camera.focal)
        self._sky_triangle.render()

    def _read(self, camera: Camera, poses: tuple[Array, ...]) -> Frame:
        grid = 2 * self.size + 1
        colour = self._read_colour()
        geometry = np.frombuffer(self._target.read(components=4, attachment=1, dtype="f4"), np.float32)
        geometry = geometry.reshape(grid, grid, 4)[::-1][1::2, 1::2]
        albedo = np.frombuffer(self._target.read(components=3, attachment=2), np.uint8).reshape(grid, grid, 3)[::-1]
        sums = colour[..., :3].astype(np.uint16)
        sums = sums[:-1:2] + 2 * sums[1::2] + sums[2::2]
        sums = sums[:, :-1:2] + 2 * sums[:, 1::2] + sums[:, 2::2]
        rgb = ((sums + 8) >> 4).astype(np.uint8)
        return Frame(
            rgb,
            colour[1::2, 1::2, 3].copy(),
            geometry[..., 3].copy(),
            geometry[..., :3].copy(),
            albedo[1::2, 1::2].copy(),
            camera,
            poses,
        )

    def _read_colour(self) -> Bytes:
        grid = 2 * self.size + 1
        return np.frombuffer(self._target.read(components=4), np.uint8).reshape(grid, grid, 4)[::-1]

    def _loaded(self, mesh: Mesh) -> "list[_Loaded]":
        key = id(mesh)  # the mesh is kept beside, so its id is not used again meanwhile
        if key not in self._meshes:
            self._meshes[key] = (mesh, [self._load(part.vertices, part.colour, part.texture) for part in mesh.parts])
            if len(self._meshes) > self._kept:
                _release(self._meshes.popitem(last=False)[1][1])
        self._meshes.move_to_end(key)
        return self._meshes[key][1]

    def _load(self, vertices: Floats, colour: tuple[float, float, float], texture: Bytes | None) -> "_Loaded":
        buffer = self._context.buffer(np.ascontiguousarray(vertices, dtype="f4").tobytes())
        array = self._context.vertex_array(self._solid, [(buffer, "3f 3f 2f", "position", "normal", "uv")])
        return _Loaded(buffer, array, colour, texture)

    def _texture(self, pixels: Bytes) -> "moderngl.Texture":
        """By the identity of the array: making the smaller levels is dear in software."""
        key = id(pixels)  # the array is kept beside, so its id is not used again meanwhile
        if key not in self._textures:
            size = pixels.shape[1], pixels.shape[0]
            texture = self._context.texture(size, 4, np.ascontiguousarray(pixels).tobytes())
            texture.build_mipmaps()
            self._textures[key] = (pixels, texture)
            if len(self._textures) > self._kept_textures:
                self._textures.popitem(last=False)[1][1].release()
        self._textures.move_to_end(key)
        return self._textures[key][1]

    @staticmethod
    def _uniform(program: "moderngl.Program", name: str) -> "moderngl.Uniform":
        import moderngl

        uniform = program[name]
        assert isinstance(uniform, moderngl.Uniform)
        return uniform

    def _write(self, name: str, value: npt.NDArray[np.float64]) -> None:
        self._uniform(self._solid, name).write(value.astype("f4").tobytes())


@dataclass(frozen=True)
class _Loaded:
    buffer: "moderngl.Buffer"
    array: "moderngl.VertexArray"
    colour: tuple[float, float, float]
    texture: Bytes | None


def _release(loaded: "list[_Loaded]") -> None:
    for part in loaded:
        part.array.release()
        part.buffer.release()


def _open_context() -> "moderngl.Context":
    try:
        import moderngl
    except ImportError as error:
        raise MissingDependencyError("moderngl is not installed: pip install 'midsight[scenes]'") from error
    with contextlib.suppress(ImportError):  # an optimiser loads it, and behind Mesa's LLVM its own crashes the process
        importlib.import_module("triton")
    try:
        choice: Any = {"standalone": True, "backend": "egl", "require": 330}  # its types know no backend by name
        return moderngl.create_context(**choice)
    except Exception as error:  # the loader raises bare Exception for a missing library and for a missing device
        raise MissingDependencyError(
            f"no OpenGL 3.3 by EGL on this machine ({error}). "
            "On Debian: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"
        ) from error
