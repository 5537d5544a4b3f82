"""Rendered scenes with captions and exact labels: `build_scenes` writes shards, `SceneEngine` makes single samples.

Needs the extra `scenes` (moderngl, trimesh) and EGL: on Debian, libegl1 libegl-mesa0 libgl1-mesa-dri; no GPU is needed.
"""

from midsight.data.scenes.catalogue import FurnitureModel, attributions, furniture_models, read_catalogue
from midsight.data.scenes.engine import SceneClip, SceneEngine, ScenePicture
from midsight.data.scenes.layout import SceneOptions, Stock
from midsight.data.scenes.write import BuiltScenes, build_scenes, packaged_stock, read_labels, scene_samples

__all__ = [
    "BuiltScenes",
    "FurnitureModel",
    "SceneClip",
    "SceneEngine",
    "SceneOptions",
    "ScenePicture",
    "Stock",
    "attributions",
    "build_scenes",
    "furniture_models",
    "packaged_stock",
    "read_catalogue",
    "read_labels",
    "scene_samples",
]
