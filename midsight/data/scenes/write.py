"""Samples as webdataset shards: pictures as JPEG, clips as MP4, the caption as text, facts as JSON, labels as NPZ.

A shard is a plain tar of fixed order and times: the same scenes give the same bytes. A stopped build goes on with the
shards that its journal does not have.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.data import packaged
from midsight.data.packages import fetch
from midsight.data.scenes.catalogue import FurnitureModel, attributions, furniture_models, texture_credit
from midsight.data.scenes.engine import SceneClip, SceneEngine, ScenePicture
from midsight.data.scenes.layout import SceneOptions, Stock
from midsight.data.scenes.meshes import Bytes, Floats
from midsight.data.scenes.render import Frame
from midsight.errors import ConfigError, MediaError
from midsight.files import Journal, atomic_write

_SURFACE = (
    "wood", "parquet", "marble", "stone", "tile", "fabric", "carpet", "concrete", "granit", "pine", "oak", "bois",
)  # fmt: skip
_GROUND = ("stone", "sand", "rock", "grass", "concrete")
DEPTH_STEP = 0.001  # metres: depth is stored in whole millimetres
DEPTH_LIMIT = 65.535  # metres: what is farther is stored as this
FLOW_STEP = 1 / 32  # pixels


@dataclass(frozen=True)
class BuiltScenes:
    """What a build made."""

    shards: tuple[Path, ...]
    samples: int
    failures: dict[str, int]  # scenes that could not be drawn, by reason
    unreadable_models: dict[str, str]  # file -> reason; scenes that wanted one were drawn anew (of this run only)


def packaged_stock(root: Path) -> Stock:
    """Furniture, its wood, stone and cloth pictures, and the open photographs as skies; fetched below `root`."""
    paths = [picture.path for picture in packaged.textures(root)]
    surfaces, grounds = (
        tuple(path for path in paths if any(word in path.stem.lower() for word in words))
        for words in (_SURFACE, _GROUND)
    )
    photographs = packaged.photographs(root)
    unpacked = fetch("sweethome3d-furniture", root) / "unpacked"
    used = sorted({*surfaces, *grounds})
    credits = [texture_credit(path, unpacked / path.relative_to(unpacked).parts[0]) for path in used]
    credits += [f"Photograph {p.path.name}, by {p.author or p.source} ({p.source}), {p.licence}" for p in photographs]
    skies = tuple(picture.path for picture in photographs)
    return Stock(tuple(furniture_models(root)), surfaces, grounds, skies, tuple(credits))


def build_scenes(
    out: Path,
    count: int,
    seed: int = 0,
    *,
    stock: Stock,
    clips: bool = False,
    options: SceneOptions | None = None,
    per_shard: int = 256,
    progress: Callable[[int], None] | None = None,
) -> BuiltScenes:
    """Render `count` scenes of a seed into `out/scenes-000000.tar` and so on, with `ATTRIBUTION.txt` beside them.

    Each sample has `.jpg` (or `.mp4`), `.txt` (one caption), `.json` (all captions, objects, relations, terms) and
    `.npz` (labels, see `read_labels`). Going on after a stop needs the same arguments.

    Args:
        stock: see `packaged_stock`.
        clips: clips instead of pictures.
        progress: called with the number of scenes done, after each.

    Raises:
        ConfigError: count or per_shard below 1.
        OutputError: the disk is full, or `out` holds a build of other arguments.
        MissingDependencyError: no EGL, moderngl or trimesh.
    """
    if count < 1 or per_shard < 1:
        raise ConfigError(f"count and per_shard must be at least 1, got {count} and {per_shard}")
    options = options or SceneOptions()
    out.mkdir(parents=True, exist_ok=True)
    made = _Progress(progress)
    with SceneEngine(stock, options, seed) as engine, Journal(out / "journal.jsonl") as journal:
        done = journal.resume(_arguments(seed, stock, clips, options, per_shard), "shard")
        shards = []
        for number, start in enumerate(range(0, count, per_shard)):
            indices = range(start, min(start + per_shard, count))
            path = out / f"scenes-{number:06d}.tar"
            shards.append(path)
            if (entry := done.get(path.name)) is None or entry["count"] != len(indices) or not path.exists():
                done[path.name] = _write_shard(engine, path, indices, clips, made)
                journal.append(done[path.name])
    used = [engine.stock.models[k] for k in sorted({k for path in shards for k in done[path.name]["models"]})]
    with atomic_write(out / "ATTRIBUTION.txt") as file:
        file.write((attributions(used) + "".join(line + "\n" for line in stock.credits)).encode())
    failures = sum((Counter(done[path.name]["failures"]) for path in shards), Counter[str]())
    samples = sum(done[path.name]["samples"] for path in shards)
    return BuiltScenes(
        tuple(shards), samples, dict(failures), {str(path): reason for path, reason in engine.unreadable.items()}
    )


def scene_samples(engine: SceneEngine, indices: range, clips: bool) -> Iterator[ScenePicture | SceneClip | MediaError]:
    """One sample or one error for each index, in order."""
    for index in indices:
        try:
            yield engine.clip(index) if clips else engine.picture(index)
        except MediaError as error:
            yield error


def labels(sample: ScenePicture | SceneClip) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a sample's NPZ, in their stored types. A picture has no leading T.

    ids uint8 (T, S, S); depth_mm uint16 (T, S, S); normals int8 (T, S, S, 3) times 127; intrinsics float64 (T, 3, 3);
    world_to_camera float64 (T, 4, 4); poses float64 (T, N, 4, 4). Clips also: flow int16 (T - 1, S, S, 2) times 32,
    flow_visible and tracks_visible bool, tracks float32 (T, P, 2).
    """
    if isinstance(sample, ScenePicture):
        return {name: value[0] for name, value in _frames((sample.frame,)).items()}
    limit = np.iinfo(np.int16).max
    return _frames(sample.frames) | {
        "flow": np.clip(np.round(sample.flow / FLOW_STEP), -limit, limit).astype(np.int16),
        "flow_visible": sample.flow_visible,
        "tracks": sample.tracks,
        "tracks_visible": sample.tracks_visible,
    }


def read_labels(source: bytes | Path) -> dict[str, npt.NDArray[Any]]:
    """A sample's NPZ in natural units: `depth` float32 metres, `normals` and `flow` (pixels) float32, the rest as is.

    Raises:
        MediaError: no such file, or not the labels of a scene.
    """
    try:
        with np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False) as stored:
            arrays = dict(stored)
        depth: Floats = arrays.pop("depth_mm").astype(np.float32) * np.float32(DEPTH_STEP)
        arrays |= {"depth": depth, "normals": arrays["normals"].astype(np.float32) / 127}
        if "flow" in arrays:
            arrays["flow"] = arrays["flow"].astype(np.float32) * np.float32(FLOW_STEP)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        name = f"{len(source)} bytes" if isinstance(source, bytes) else source
        raise MediaError(
            f"{name}: not the labels of a scene ({error}). Expected an NPZ made by build_scenes."
        ) from error
    return arrays


def encode_clip(frames: list[Bytes], frame_rate: int) -> bytes:
    """H.264 in MP4, one thread: the same frames give the same bytes."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=frame_rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "14", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


class _Progress:
    def __init__(self, tell: Callable[[int], None] | None) -> None:
        self._tell, self._done = tell, 0

    def step(self) -> None:
        self._done += 1
        if self._tell is not None:
            self._tell(self._done)


def _write_shard(engine: SceneEngine, path: Path, indices: range, clips: bool, made: _Progress) -> dict[str, Any]:
    """Writes one shard whole, and tells for the journal what is in it."""
    failures: Counter[str] = Counter()
    numbers = {model.path: k for k, model in enumerate(engine.stock.models)}
    used: set[int] = set()
    samples = 0
    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in scene_samples(engine, indices, clips):
            if isinstance(sample, MediaError):
                failures[str(sample)] += 1
            else:
                samples += 1
                used |= {numbers[placed.model.path] for placed in sample.scene.objects}
                for suffix, content in _files(sample):
                    _add(tar, f"{sample.key}.{suffix}", content)
            made.step()
    return {
        "shard": path.name, "count": len(indices), "samples": samples, "failures": dict(failures),
        "models": sorted(used),
    }  # fmt: skip


def _files(sample: ScenePicture | SceneClip) -> Iterator[tuple[str, bytes]]:
    if isinstance(sample, ScenePicture):
        picture = io.BytesIO()
        Image.fromarray(sample.frame.rgb).save(picture, "JPEG", quality=95, subsampling=0)
        yield "jpg", picture.getvalue()
    else:
        yield "mp4", encode_clip([frame.rgb for frame in sample.frames], sample.frame_rate)
    yield "txt", sample.captions[sample_caption(sample)].encode()
    yield "json", json.dumps(sample.record(), ensure_ascii=False).encode()
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**labels(sample)}
    np.savez_compressed(buffer, **arrays)
    yield "npz", buffer.getvalue()


def sample_caption(sample: ScenePicture | SceneClip) -> int:
    """Which of its captions a sample's `.txt` holds: one of all, by its key."""
    return int(sample.key.replace("-", "")) % len(sample.captions)


def _frames(frames: tuple[Frame, ...]) -> dict[str, npt.NDArray[Any]]:
    depth = np.stack([frame.depth for frame in frames])
    return {
        "ids": np.stack([frame.ids for frame in frames]),
        "depth_mm": np.round(np.minimum(depth, DEPTH_LIMIT) / DEPTH_STEP).astype(np.uint16),
        "normals": np.round(np.stack([frame.normals for frame in frames]) * 127).astype(np.int8),
        "intrinsics": np.stack([frame.camera.intrinsics() for frame in frames]),
        "world_to_camera": np.stack([frame.camera.world_to_camera() for frame in frames]),
        "poses": np.stack([np.stack(frame.poses) for frame in frames]),
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def _arguments(seed: int, stock: Stock, clips: bool, options: SceneOptions, per_shard: int) -> dict[str, Any]:
    """What must be the same for a build to go on; files by name, so that a moved stock does not matter."""

    def model(one: FurnitureModel) -> str:
        return f"{one.source}/{one.path.parent.name}/{one.path.name}"

    pictures = [[path.name for path in paths] for paths in (stock.surfaces, stock.grounds, stock.skies)]
    names = json.dumps([[model(one) for one in stock.models], *pictures])
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {"seed": seed, "clips": clips, "per_shard": per_shard, "options": asdict(options), "stock": digest}
