"""The packaged pictures' terms, on a made-up package folder."""

import csv
from pathlib import Path, PurePosixPath

import pytest

from midsight.data import packaged
from midsight.data.packages import PACKAGES
from midsight.errors import InputError


def test_surfaces_carry_the_licence_of_their_catalogue(tmp_path: Path) -> None:
    package = tmp_path / "sweethome3d-furniture"
    for catalogue in ("BlendSwap-CC-0", "BlendSwap-CC-BY", "Scopia"):
        folder = package / "unpacked" / catalogue / "models" / "chair"
        folder.mkdir(parents=True)
        (folder / "wood.jpg").write_bytes(bytes(20_000))
        (folder / "small.jpg").write_bytes(bytes(10))
    (package / ".complete").touch()
    found = {picture.path.parts[-4]: picture.licence for picture in packaged.textures(tmp_path)}
    assert found == {"BlendSwap-CC-0": "CC0-1.0", "BlendSwap-CC-BY": "CC-BY-3.0", "Scopia": "CC-BY-3.0"}


def test_labels_of_everyday_photographs_are_well_formed() -> None:
    with packaged.EVERYDAY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 300
    assert list(rows[0]) == ["package", "file", "name", "kind"]
    files = [(row["package"], row["file"]) for row in rows]
    assert len(set(files)) == len(files)
    assert {row["package"] for row in rows} == {"tuxpaint-stamps-default", "gcompris-qt-data"}
    for row in rows:
        assert None not in row  # a field too many
        for key in ("name", "kind"):
            value = row[key]
            assert value == " ".join(value.lower().split()), row
            assert value.replace(" ", "").replace("-", "").isalpha(), row
        path = PurePosixPath(row["file"])
        assert path.suffix in (".png", ".jpg", ".webp"), row
        assert not path.is_absolute(), row
        assert ".." not in path.parts, row
    assert all(not PACKAGES[row["package"]].shipped for row in rows)  # measured on, never trained on


def test_everyday_photographs_are_found_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("package,file,name,kind\ntuxpaint-stamps-default,animals/a.png,frog,amphibian\n")
    monkeypatch.setattr(packaged, "EVERYDAY", labels)
    monkeypatch.setattr(packaged, "_unpacked_resources", lambda root: root)
    package = tmp_path / "tuxpaint-stamps-default"
    picture = package / "usr/share/tuxpaint/stamps/animals/a.png"
    picture.parent.mkdir(parents=True)
    (package / ".complete").touch()
    with pytest.raises(InputError, match=r"a\.png is not in package tuxpaint-stamps-default"):
        packaged.everyday(tmp_path)
    picture.touch()
    (found,) = packaged.everyday(tmp_path)
    assert (found.path, found.name, found.kind, found.source) == (picture, "frog", "amphibian", package.name)
