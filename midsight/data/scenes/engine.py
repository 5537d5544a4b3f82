"""From (seed, index) to a finished sample: layout, rendering, a check that everything is seen, labels, captions."""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from midsight.data.scenes.camera import camera_path
from midsight.data.scenes.captions import Seen, describe, facts, look
from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.layout import Scene, SceneOptions, Stock, draw_scene
from midsight.data.scenes.meshes import COLOURS, Bytes, Floats, Mesh, load_mesh, read_texture
from midsight.data.scenes.render import Frame, Item, Renderer
from midsight.data.scenes.surroundings import sky, surroundings
from midsight.data.scenes.truth import Bools, flow, query_points, tracks
from midsight.errors import InputError, MediaError

LEAST_AREA = 0.003  # of the picture: less is too small to be talked about
LEAST_SHARE = 0.4  # of what would be seen of the object alone, inside the picture
_ATTEMPTS = 6
_KEPT = 640  # meshes and textures in memory: a catalogue of 560 models takes about 2 GB
_TRACKED = 64  # points of a clip


@dataclass(frozen=True)
class ScenePicture:
    """One picture: what is drawn, the labels, the words."""

    key: str
    scene: Scene
    frame: Frame
    seen: tuple[Seen, ...]
    areas_alone: tuple[int, ...]  # pixels of each object if nothing stood before it
    captions: tuple[str, ...]  # from the shortest to the fullest

    def record(self) -> dict[str, Any]:
        """Captions, objects, relations, camera, terms: what goes into the sample's JSON."""
        return _record(self.scene, self.captions, self.seen, self.areas_alone) | {"key": self.key, "kind": "picture"}


@dataclass(frozen=True)
class SceneClip:
    """One clip of T frames. S is the side of the picture, N the tracked points."""

    key: str
    scene: Scene
    frames: tuple[Frame, ...]
    seen: tuple[Seen, ...]  # in the first frame
    areas_alone: tuple[int, ...]  # in the first frame
    captions: tuple[str, ...]
    flow: Floats  # (T - 1, S, S, 2): from each frame to the next, pixels
    flow_visible: Bools  # (T - 1, S, S)
    tracks: Floats  # (T, N, 2): pixels
    tracks_visible: Bools  # (T, N)
    frame_rate: int

    def record(self) -> dict[str, Any]:
        """Captions, objects, relations, camera, motion, terms: what goes into the sample's JSON."""
        motions = [{"id": k, "motion": o.motion} for k, o in enumerate(self.scene.objects, start=1) if o.motion]
        return _record(self.scene, self.captions, self.seen, self.areas_alone) | {
            "key": self.key, "kind": "clip", "frames": len(self.frames), "frame_rate": self.frame_rate,
            "camera_move": self.scene.move, "motions": motions,
        }  # fmt: skip


class SceneEngine:
    """Makes samples of one stock. Holds a renderer: close it, or use `with`.

    `unreadable` gathers the models that could not be loaded, with the reason; a scene that wants one is drawn anew.

    Raises:
        MissingDependencyError: no EGL, no moderngl (trimesh: on the first model).
    """

    def __init__(self, stock: Stock, options: SceneOptions | None = None, seed: int = 0) -> None:
        self.stock, self.options, self.seed = stock, options or SceneOptions(), seed
        self.renderer = Renderer(self.options.size, kept_meshes=_KEPT)
        self.unreadable: dict[Path, str] = {}
        self._meshes: OrderedDict[Path, Mesh] = OrderedDict()
        self._textures: OrderedDict[Path, Bytes] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Frees the renderer."""
        self.renderer.close()

    def picture(self, index: int) -> ScenePicture:
        """Picture `index` of the seed.

        Raises:
            MediaError: none of several scenes in its place could be drawn.
        """
        scene, seen, alone, drawing = self._settled(index, clip=False)
        self._forget(drawing)
        words = describe(scene, seen, None, _words_seed(self.seed, index))
        return ScenePicture(f"{self.seed:06d}-{index:08d}", scene, drawing.frame, tuple(seen), alone, tuple(words))

    def clip(self, index: int) -> SceneClip:
        """Clip `index` of the seed.

        Raises:
            MediaError: none of several scenes in its place could be drawn.
        """
        scene, seen, alone, drawing = self._settled(index, clip=True)
        count = self.options.frames
        cameras = camera_path(scene.camera, scene.move, count)
        frames = [drawing.frame]
        for k in range(1, count):
            items = self._items(scene, k / (count - 1))
            frames.append(self.renderer.draw(items, drawing.surroundings, cameras[k], sky=drawing.sky, sun=scene.sun))
        self._forget(drawing)
        last = look(frames[-1], scene)
        words = describe(scene, seen, last, _words_seed(self.seed, index))
        flows = [flow(a, b) for a, b in zip(frames, frames[1:], strict=False)]
        followed, visible = tracks(frames, query_points(frames[0], _TRACKED, _words_seed(self.seed, index)))
        return SceneClip(
            f"{self.seed:06d}-{index:08d}", scene, tuple(frames), tuple(seen), alone, tuple(words),
            np.stack([vector for vector, _ in flows]), np.stack([here for _, here in flows]), followed, visible,
            self.options.frame_rate,
        )  # fmt: skip

    def _settled(self, index: int, clip: bool) -> "tuple[Scene, list[Seen], tuple[int, ...], _Drawing]":
        """A scene in which every object is well seen: those that are not are taken out and it is drawn again."""
        reason = "every object was hidden or too small"
        for attempt in range(_ATTEMPTS):
            try:
                scene = draw_scene(self.stock, self._mesh, self.seed, index, self.options, clip, attempt)
                while scene.objects:
                    drawing, alone = self._draw_start(scene)
                    hidden = self._hidden(drawing.frame, alone)
                    if not hidden:
                        return scene, look(drawing.frame, scene), alone, drawing
                    self._forget(drawing)
                    scene = scene.without(hidden)
            except MediaError as error:
                reason = str(error)
        raise MediaError(f"scene {index} of seed {self.seed}: could not be drawn in {_ATTEMPTS} attempts ({reason}).")

    def _hidden(self, frame: Frame, alone: tuple[int, ...]) -> list[int]:
        areas = np.bincount(frame.ids.reshape(-1), minlength=len(alone) + 1)[1:]
        least = LEAST_AREA * frame.ids.size
        return [k for k, area in enumerate(areas) if area < least or area < LEAST_SHARE * alone[k]]

    def _draw_start(self, scene: Scene) -> "tuple[_Drawing, tuple[int, ...]]":
        items = self._items(scene, 0.0)
        around, above = surroundings(scene, self._texture), sky(scene, self._texture)
        frame = self.renderer.draw(items, around, scene.camera, sky=above, sun=scene.sun)
        return _Drawing(frame, around, above), tuple(self.renderer.areas_alone(items, scene.camera))

    def _forget(self, drawing: "_Drawing") -> None:
        self.renderer.forget([item.mesh for item in drawing.surroundings])

    def _items(self, scene: Scene, t: float) -> list[Item]:
        return [
            Item(self._mesh(o.model), o.pose(t), None if o.paint is None else _unit(COLOURS[o.paint]))
            for o in scene.objects
        ]

    def _mesh(self, model: FurnitureModel) -> Mesh:
        if model.path in self.unreadable:
            raise MediaError(self.unreadable[model.path])
        if model.path not in self._meshes:
            try:
                self._meshes[model.path] = load_mesh(model)
            except MediaError as error:
                self.unreadable[model.path] = str(error)
                raise
            if len(self._meshes) > _KEPT:
                self.renderer.forget([self._meshes.popitem(last=False)[1]])
        self._meshes.move_to_end(model.path)
        return self._meshes[model.path]

    def _texture(self, path: Path) -> Bytes:
        if path not in self._textures:
            self._textures[path] = read_texture(path)
            if len(self._textures) > _KEPT:
                self._textures.popitem(last=False)
        self._textures.move_to_end(path)
        return self._textures[path]


@dataclass(frozen=True)
class _Drawing:
    frame: Frame
    surroundings: list[Item]
    sky: Bytes | None


def _record(scene: Scene, captions: tuple[str, ...], seen: tuple[Seen, ...], alone: tuple[int, ...]) -> dict[str, Any]:
    if len(alone) != len(scene.objects):
        raise InputError(f"{len(alone)} areas for {len(scene.objects)} objects")
    found = facts(seen)
    for entry in found["objects"]:
        model = scene.objects[entry["id"] - 1].model
        entry["share_seen"] = round(entry["area"] / alone[entry["id"] - 1], 4)
        entry |= {"names": model.names, "category": model.category, "licence": model.licence}
        entry |= {"author": model.author, "source": model.source}
    return {"captions": list(captions), **found, "place": scene.place, "camera": asdict(scene.camera)}


def _unit(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    return rgb[0] / 255, rgb[1] / 255, rgb[2] / 255


def _words_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
