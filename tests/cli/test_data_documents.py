"""`midsight data build documents`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midsight.cli.main import app
from midsight.data.documents.fonts import matplotlib_families
from midsight.data.documents.icons import NAMED

RUN = CliRunner()


def _work(root: Path) -> Path:
    """Icons and definitions as their packages unpack, so that nothing is fetched."""
    icons, words = root / "bootstrap-icons/package/icons", root / "wordnet-base/usr/share/wordnet"
    icons.mkdir(parents=True)
    words.mkdir(parents=True)
    for name in NAMED:
        (icons / f"{name}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" fill="red"/>')
    (words / "data.noun").write_text("1 06 n 01 pot 0 000 | a vessel made of clay that holds soup\n")
    for name in ("bootstrap-icons", "wordnet-base"):
        (root / name / ".complete").touch()
    return root


def _build(tmp_path: Path, *options: str) -> tuple[int, str]:
    fonts = str(matplotlib_families()[0].regular.parent)
    result = RUN.invoke(
        app, ["data", "build", "documents", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "w"),
              "--fonts", fonts, "--workers", "1", *options],
    )  # fmt: skip
    return result.exit_code, result.stderr


def test_documents_are_built_and_told_of(tmp_path: Path) -> None:
    _work(tmp_path / "w")
    code, told = _build(tmp_path, "--kinds", "card=2,table=1", "--sides", "320,400", "--seed", "5")
    assert code == 0, told
    assert "train.jsonl: 3 documents" in told
    assert "test_unseen.jsonl: 2 documents" in told
    rows = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    assert [(tmp_path / "out" / row["image"]).exists() for row in rows] == [True] * 3
    config = json.loads((tmp_path / "out/documents.json").read_text())["config"]
    assert (config["seed"], config["min_side"], config["max_side"], config["counts"]["card"]) == (5, 320, 400, 2)
    code, told = _build(tmp_path, "--kinds", "card=9")
    assert code != 0
    assert "another build (config differ)" in " ".join(told.split())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--kinds", "card"], "chart=500"),
        (["--kinds", "poem=3"], "poem"),
        (["--kinds", "card=3", "--count", "5"], "one of them"),
        (["--sides", "448"], "448,1344"),
        (["--sides", "900,400"], "min_side"),
        (["--min-text", "2"], "min_text"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: list[str], named: str) -> None:
    code, told = _build(tmp_path, *options)
    assert code == 2
    assert named in told
    assert not (tmp_path / "out").exists()


def test_a_folder_without_fonts_and_options_of_another_set(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path)]
    result = RUN.invoke(app, ["data", "build", "documents", "--fonts", str(tmp_path), *options])
    assert result.exit_code == 2
    assert "0 font families" in result.stderr
    result = RUN.invoke(app, ["data", "build", "emoji", "--min-text", "9", *options])
    assert result.exit_code == 2
    assert "--min-text is an option of documents only" in result.stderr
