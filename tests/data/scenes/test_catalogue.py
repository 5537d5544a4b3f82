"""Reading a furniture catalogue: names, sizes, terms, and what is left out."""

from pathlib import Path

import pytest

from midsight.data.scenes import FurnitureModel, attributions, read_catalogue
from midsight.data.scenes.catalogue import texture_credit
from midsight.errors import InputError

INDEX = "PluginFurnitureCatalog.properties"


def entry(number: int, name: str, model: str, **fields: object) -> str:
    values = {"width": 50, "depth": 40, "height": 90, "category": "Office", **fields, "name": name, "model": model}
    return "".join(f"{key}#{number}={value}\n" for key, value in values.items())


def catalogue(folder: Path, text: str) -> list[FurnitureModel]:
    (folder / INDEX).write_text(text, encoding="latin-1")
    for name in ("a", "b", "c"):
        (folder / f"{name}.obj").write_text("v 0 0 0\n")
    return read_catalogue(folder)


def test_names_sizes_and_terms(models: list[FurnitureModel]) -> None:
    wardrobe = models[4]
    assert wardrobe.names == {"en": "Wardrobe", "de": "Kleiderschrank"}
    assert (wardrobe.name, wardrobe.size, wardrobe.licence) == ("wardrobe", (1.0, 2.0, 0.6), "CC0-1.0")
    assert wardrobe.author == "Test Author"
    assert wardrobe.path.is_file()
    assert models[5].outdoors
    assert not wardrobe.outdoors
    assert wardrobe.icon == wardrobe.path.parent.parent / "icons/wardrobe.png"
    assert models[0].icon is None  # the catalogue has none of it


def test_brands_and_spellings_are_mended_and_escapes_read(tmp_path: Path) -> None:
    (tmp_path / "PluginFurnitureCatalog_de.properties").write_text("name#1=T\\u00fcr\n", encoding="latin-1")
    found = catalogue(tmp_path, entry(1, "Renault Scenic", "/a.obj") + entry(2, "Sofa 2 seats", "/b.obj"))
    assert [model.name for model in found] == ["car", "sofa"]
    assert found[0].names == {"en": "Renault Scenic", "de": "Tür"}
    assert found[0].licence == "CC-BY-3.0"


def test_what_cannot_stand_alone_is_left_out(tmp_path: Path) -> None:
    text = entry(1, "Door", "/a.obj", doorOrWindow="true") + entry(2, "Lamp", "/a.obj", elevation=120)
    text += entry(3, "Lamp", "/a.obj", width=0) + entry(4, "Arrow straight ahead", "/a.obj")
    text += entry(5, "Lamp", "/missing.obj") + entry(6, "Lamp", "/b.obj", dropOnTopElevation="30.5")
    (only,) = catalogue(tmp_path, text)
    assert (only.path.name, only.top) == ("b.obj", 0.305)


def test_the_author_stands_beside_some_models(tmp_path: Path) -> None:
    (tmp_path / "BLENDSWAP_LICENSE.txt").write_text('Thank you for downloading "Lamp" by Priide\nReleased under\n')
    (lamp,) = catalogue(tmp_path, entry(1, "Lamp", "/a.obj"))
    assert attributions([lamp, lamp]) == f"Lamp, by Priide ({tmp_path.name}), CC-BY-3.0\n"


def test_textures_are_credited(tmp_path: Path) -> None:
    folder = tmp_path / "Some-CC-0" / "lamp"
    folder.mkdir(parents=True)
    credit = texture_credit(folder / "wood.jpg", tmp_path / "Some-CC-0")
    assert credit == "Texture lamp/wood.jpg, by Some-CC-0 (Some-CC-0), CC0-1.0"
    (folder / "BLENDSWAP_LICENSE.txt").write_text('Thank you for downloading "Lamp" by Priide\n')
    assert "by Priide (Some-CC-0)" in texture_credit(folder / "wood.jpg", tmp_path / "Some-CC-0")


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=INDEX):
        read_catalogue(tmp_path)
    with pytest.raises(InputError, match="outside|inside"):
        catalogue(tmp_path, entry(1, "Lamp", "/../a.obj"))
