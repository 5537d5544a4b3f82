"""The packaged pictures' terms, on a made-up package folder."""

from pathlib import Path

from midsight.data import packaged


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
