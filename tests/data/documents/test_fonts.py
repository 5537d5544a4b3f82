"""Fonts are found, checked for letters, and named where they are missing."""

from pathlib import Path

import pytest

from midsight.data.documents import fonts
from midsight.data.packages import Package
from midsight.errors import InputError


def test_what_matplotlib_brings_is_enough_and_the_rest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(package: Package, root: Path) -> Path:
        raise InputError(f"{package.name} cannot be had")

    monkeypatch.setattr(fonts, "fetch_package", fails)
    found = fonts.find_fonts(tmp_path)
    assert {f.name for f in found.families} == {"DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral"}
    assert found.missing["fonts-lato"] == "fonts-lato cannot be had"
    for family in found.families:
        assert family.regular.is_file()
        assert "Bol" in family.bold.name
        assert family.licence


def test_a_package_gives_its_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fonts.matplotlib_families()[0].regular.parent
    members = {"DejaVu Sans": "sans", "DejaVu Serif": "serif", "DejaVu Sans Mono": "mono", "STIXGeneral": "serif"}
    monkeypatch.setattr(fonts, "_PACKAGED", {"own": ("OFL-1.1", {**members, "cmr10": "serif"})})
    monkeypatch.setattr(fonts, "matplotlib_families", list)
    monkeypatch.setattr(fonts, "fetch_package", lambda package, root: source)
    found = fonts.find_fonts(tmp_path).families
    assert {f.name: f.category for f in found} == members  # cmr10 lacks £ and accents
    assert {(f.package, f.licence) for f in found} == {("fonts-own", "OFL-1.1")}


def test_fonts_of_ones_own_and_too_few_of_them(tmp_path: Path) -> None:
    source = fonts.matplotlib_families()[0].regular.parent
    names = {f.name: f.category for f in fonts.installed_fonts(source)}
    assert names["DejaVu Sans Mono"] == "mono"
    assert names["DejaVu Serif"] == "serif"
    assert names["DejaVu Sans"] == "sans"
    assert not [name for name in names if name.startswith("Last Resort")]  # one box for every letter
    with pytest.raises(InputError, match="0 font families"):
        fonts.installed_fonts(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        fonts.installed_fonts(tmp_path / "none")
