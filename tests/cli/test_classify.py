"""`midsight classify`, as a program and as a person would use it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures and a broken one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "c.jpg"):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    (folder / "b.png").write_bytes(b"broken")
    return folder


def run(tiny_folder: Path, *args: object) -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, args), "--model", str(tiny_folder)])


def records(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json(tiny_folder: Path, photos: Path, tiny_model: midsight.Perception) -> None:
    labels = ["a dog", "a cat", "a tree"]
    result = run(tiny_folder, photos / "a.png", CLIP, "--labels", ",".join(labels), "--json")
    assert result.exit_code == 0
    assert not result.stderr
    expected = tiny_model.classify([photos / "a.png", CLIP], labels)
    for record, path, predictions in zip(records(result), (photos / "a.png", CLIP), expected, strict=True):
        assert list(record) == ["path", "predictions"]
        assert record["path"] == str(path)
        found = record["predictions"]
        assert isinstance(found, list)
        assert [entry["label"] for entry in found] == [p.label for p in predictions]
        assert [entry["score"] for entry in found] == pytest.approx([p.score for p in predictions], abs=1e-6)
        assert sum(entry["score"] for entry in found) == pytest.approx(1)


def test_one_broken_file_among_many(tiny_folder: Path, photos: Path) -> None:
    result = run(tiny_folder, photos, "missing.jpg", "--labels", "a,b", "--json")
    assert result.exit_code == 1
    found = records(result)
    assert [Path(str(record["path"])).name for record in found] == ["a.png", "b.png", "c.jpg", "missing.jpg"]
    assert ["error" in record for record in found] == [False, True, False, True]
    assert list(found[1]) == ["path", "error"]
    assert "b.png" in str(found[1]["error"])
    assert "2 of 4 could not be read" in result.stderr


def test_table(tiny_folder: Path, photos: Path) -> None:
    result = run(tiny_folder, photos, "-l", "one,two,three,four,five,six")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["file", "label", "probability"]
    assert len(lines) == 1 + 5 + 1 + 5, "five labels for a good file, one line for a broken one"
    assert "not read" in lines[6]
    assert str(photos / "b.png") in result.stderr


def test_top_and_templates(tiny_folder: Path, photos: Path, tiny_model: midsight.Perception) -> None:
    result = run(tiny_folder, photos / "a.png", "-l", "dog,cat", "-t", "imagenet1k", "-k", 1, "--json")
    (record,) = records(result)
    best = tiny_model.classify(photos / "a.png", ["dog", "cat"], "imagenet1k", top_k=1)[0][0]
    assert record["predictions"] == [{"label": best.label, "score": pytest.approx(best.score, abs=1e-6)}]


def test_lists_from_files(tiny_folder: Path, photos: Path, tmp_path: Path, tiny_model: midsight.Perception) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffa dog, sitting\n\na cat\r\n", encoding="utf-8")
    (tmp_path / "templates.txt").write_text("a {c}\nthe {c}\n", encoding="utf-8")
    result = run(
        tiny_folder, photos / "a.png", "-l", f"@{tmp_path}/labels.txt", "-t", f"@{tmp_path}/templates.txt", "--json"
    )
    (record,) = records(result)
    expected = tiny_model.classify(photos / "a.png", ["a dog, sitting", "a cat"], ["a {c}", "the {c}"])[0]
    assert record["predictions"] == [{"label": p.label, "score": pytest.approx(p.score, abs=1e-6)} for p in expected]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-l", "a,b,a"), "more than once"),
        (("-l", "a,,b"), "label 2"),
        (("-l", ""), "label 1"),
        (("-l", "@missing.txt"), "missing.txt"),
        (("-l", "a,b", "-t", "imagenot"), "imagenet1k"),
        (("-l", "a,b", "--device", "abacus"), "abacus"),
        (("-l", "a,b", "--image-size", "33"), "patch size 8"),
    ],
)
def test_wrong_arguments(tiny_folder: Path, photos: Path, args: tuple[str, ...], message: str) -> None:
    result = run(tiny_folder, photos / "a.png", *args)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not result.stdout


def test_files_that_hold_no_list(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "holds no labels" in run(tiny_folder, photos, "-l", f"@{tmp_path}/empty.txt").stderr
    assert "not UTF-8" in run(tiny_folder, photos, "-l", f"@{tmp_path}/binary.txt").stderr


def test_an_empty_folder(tiny_folder: Path, tmp_path: Path) -> None:
    result = run(tiny_folder, tmp_path, "-l", "a,b")
    assert result.exit_code == 2
    assert "no pictures or videos" in result.stderr


def test_control_characters_in_names_stay_out_of_the_terminal(tiny_folder: Path, photos: Path) -> None:
    odd = photos / "a\x1b[2J.png"
    (photos / "a.png").rename(odd)
    (photos / "b.png").rename(photos / "b\x1b]0;title\x07.png")
    result = run(tiny_folder, photos, "-l", "x\x1b[1m,y")
    assert "\x1b" not in result.output
    assert r"a\x1b[2J.png" in result.stdout
    assert r"x\x1b[1m" in result.stdout
    assert r"b\x1b]0;title\x07.png" in result.stderr
    assert records(run(tiny_folder, odd, "-l", "x,y", "--json"))[0]["path"] == str(odd)


def test_a_long_label_is_cut_with_a_readable_warning(tiny_folder: Path, photos: Path) -> None:
    result = run(tiny_folder, photos / "a.png", "-l", "word " * 40 + ",y")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: 1 of 2 texts")
    assert ".py" not in result.stderr
