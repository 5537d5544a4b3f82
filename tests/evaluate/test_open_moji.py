"""Zero-shot on OpenMoji: over all names and groups apart."""

from pathlib import Path

import numpy as np
import pytest

from midsight.evaluate import open_moji

ROWS = (
    ("1F600", "grinning face", ""),
    ("1F44B", "waving hand", ""),
    ("1F44B-1F3FB", "waving hand: light skin tone", "1"),
    ("E040", "wind turbine", ""),
    ("E041", "teapot", ""),
    ("1F431", "cat face", ""),
)


class Oracle:
    """Embeds the n-th name and the n-th picture alike, except for the pictures of `wrong`."""

    def __init__(self, wrong: set[str]) -> None:
        self.names = sorted(name for code, name, skin in ROWS if not skin)
        self.of = {code: name for code, name, _ in ROWS}
        self.wrong = wrong

    def embed_texts(self, texts: list[str], templates: str) -> np.ndarray:
        assert texts == self.names
        return np.eye(len(texts), dtype=np.float32)

    def embed_images(self, paths: list[Path]) -> np.ndarray:
        places = [self.names.index(self.of[path.stem]) for path in paths]
        shifted = [
            (p + 1) % 5 if self.of[path.stem] in self.wrong else p for p, path in zip(places, paths, strict=True)
        ]
        return np.eye(5, dtype=np.float32)[shifted]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The package as if fetched and drawn already."""
    folder = tmp_path / "openmoji"
    (folder / "package/data").mkdir(parents=True)
    (folder / "package/color/svg").mkdir(parents=True)
    (folder / ".complete").touch()
    drawn = tmp_path / "rasterised/openmoji"
    drawn.mkdir(parents=True)
    lines = ["hexcode,annotation,skintone,openmoji_author"]
    for code, name, skin in ROWS:
        lines.append(f"{code},{name},{skin},someone")
        (folder / f"package/color/svg/{code}.svg").touch()
        (drawn / f"{code}.png").touch()
    (folder / "package/data/openmoji.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_groups_and_figures(root: Path) -> None:
    figures = {f.metric: f for f in open_moji.evaluate(Oracle({"teapot"}), root)}  # type: ignore[arg-type]
    assert figures["all, top-1"].value == pytest.approx(4 / 5)
    assert figures["all, top-1"].chance == pytest.approx(1 / 5)
    assert figures["Unicode emoji, top-1"].value == 1
    assert figures["Unicode emoji, top-1"].count == 3
    assert figures["OpenMoji's own, top-1"].value == pytest.approx(1 / 2)
    assert figures["all, top-5"].value == 1
