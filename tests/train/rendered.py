"""A handful of rendered scenes as a data set: pictures with exact labels and depth, in folders."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.scenes import SceneEngine, SceneOptions, Stock, read_catalogue
from midsight.errors import MissingDependencyError
from midsight.images.labels import write_depth, write_labels
from tests.data.scenes.conftest import MODELS, write_catalogue

CLASSES = 1 + len(MODELS)  # the surroundings, and each model


def write_scenes(folder: Path, count: int = 4, size: int = 64) -> Path:
    """images/, masks/ and depth/ below `folder`, with a `training` and a `validation` part of the same pictures."""
    if os.environ.get("MIDSIGHT_WITHOUT_EGL") == "1":
        pytest.skip("MIDSIGHT_WITHOUT_EGL=1: nothing is rendered")
    catalogue = read_catalogue(write_catalogue(folder / "catalogue"))
    names = [model.path for model in catalogue]
    stock = Stock(tuple(catalogue), surfaces=(catalogue[1].path.with_suffix(".png"),), credits=("Test",))
    try:
        engine = SceneEngine(stock, SceneOptions(size=size, most_objects=3), seed=2)
    except MissingDependencyError as error:
        pytest.fail(f"{error}; or set MIDSIGHT_WITHOUT_EGL=1 to test without rendering")
    for part in ("training", "validation"):
        for kind in ("images", "masks", "depth"):
            (folder / kind / part).mkdir(parents=True)
    with engine:
        for index in range(count):
            picture = engine.picture(index)
            objects = [1 + names.index(o.model.path) for o in picture.scene.objects]
            labels = np.array([0, *objects], np.uint8)[picture.frame.ids]
            for part in ("training", "validation"):
                Image.fromarray(picture.frame.rgb).save(folder / "images" / part / f"{index}.png")
                write_labels(folder / "masks" / part / f"{index}.png", labels)
                write_depth(folder / "depth" / part / f"{index}.png", picture.frame.depth)
    return folder
