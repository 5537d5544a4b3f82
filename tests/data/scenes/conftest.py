"""A tiny furniture catalogue made on the spot: boxes, balls and tables, some with textures, names in two languages."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from midsight.data.scenes import FurnitureModel, SceneEngine, SceneOptions, Stock, read_catalogue
from midsight.data.scenes.render import Renderer
from midsight.errors import MissingDependencyError

# name, German name, category, size (width, depth, height) in cm, colour or texture, shape
MODELS = (
    ("Chair", "Stuhl", "Living room", (50, 50, 90), (200, 30, 30), "box"),
    ("Table", "Tisch", "Living room", (120, 90, 72), "texture", "box"),
    ("Basketball", "Basketball", "Miscellaneous", (25, 25, 25), (230, 120, 20), "ball"),
    ("Vase", "Vase", "Living room", (20, 20, 40), (40, 80, 200), "ball"),
    ("Wardrobe", "Kleiderschrank", "Bedroom", (100, 60, 200), "texture", "box"),
    ("Mailbox", "Briefkasten", "Exterior", (40, 40, 120), (50, 150, 50), "box"),
)


def write_obj(folder: Path, name: str, shape: str, look: tuple[int, int, int] | str) -> None:
    """An OBJ file of a unit shape with its material beside it."""
    mesh = trimesh.creation.box() if shape == "box" else trimesh.creation.icosphere(subdivisions=3)
    lines = [f"mtllib {name}.mtl", "usemtl one"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    lines += [f"vt {x + z + 0.5:.4f} {y + 0.5:.4f}" for x, y, z in mesh.vertices]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in mesh.faces]
    (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
    material = "newmtl one\nKd " + (
        "1 1 1" if isinstance(look, str) else " ".join(f"{channel / 255:.4f}" for channel in look)
    )
    if isinstance(look, str):
        material += f"\nmap_Kd {name}.png"
        blocks = np.random.default_rng(3).integers(40, 220, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(blocks).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    (folder / f"{name}.mtl").write_text(material + "\n")


def write_catalogue(folder: Path) -> Path:
    """The catalogue's index in English and German, and its models."""
    models = folder / "models"
    models.mkdir(parents=True)
    english, german = ["license=Creative Commons CC0"], []
    for number, (name, other, category, size, look, shape) in enumerate(MODELS, start=1):
        write_obj(models, name.lower(), shape, look)
        english += [f"name#{number}={name}", f"category#{number}={category}", f"creator#{number}=Test Author"]
        english += [f"model#{number}=/models/{name.lower()}.obj", f"doorOrWindow#{number}=false"]
        english += [f"icon#{number}=/icons/{name.lower()}.png"] if number > 1 else []
        english += [f"{key}#{number}={value}" for key, value in zip(("width", "depth", "height"), size, strict=True)]
        german.append(f"name#{number}={other}".replace("ü", r"\u00fc"))
    (folder / "PluginFurnitureCatalog.properties").write_text("\n".join(english), encoding="latin-1")
    (folder / "PluginFurnitureCatalog_de.properties").write_text("\n".join(german), encoding="latin-1")
    return folder


@pytest.fixture(scope="session")
def egl() -> None:
    """Fails where nothing can be rendered, unless MIDSIGHT_WITHOUT_EGL=1 asks to do without."""
    if os.environ.get("MIDSIGHT_WITHOUT_EGL") == "1":
        pytest.skip("MIDSIGHT_WITHOUT_EGL=1: nothing is rendered")
    try:
        Renderer(16).close()
    except MissingDependencyError as error:
        pytest.fail(f"{error}; or set MIDSIGHT_WITHOUT_EGL=1 to test without rendering")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[FurnitureModel]:
    return read_catalogue(write_catalogue(tmp_path_factory.mktemp("catalogue") / "test"))


@pytest.fixture(scope="session")
def stock(models: list[FurnitureModel]) -> Stock:
    return Stock(
        tuple(models), surfaces=(models[1].path.with_suffix(".png"),), credits=("Texture table.png, by Test Author",)
    )


@pytest.fixture(scope="session")
def options() -> SceneOptions:
    return SceneOptions(size=96, frames=5, most_objects=5)


@pytest.fixture(scope="session")
def engine(egl: None, stock: Stock, options: SceneOptions) -> Iterator[SceneEngine]:
    with SceneEngine(stock, options, seed=5) as made:
        yield made
