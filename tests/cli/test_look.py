"""`midsight match` and `midsight attention` by hand: pictures, numbers, and everything that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from midsight.tasks.correspondence import mutual_matches


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """A picture of noise and its right part."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path, part in zip(paths, (pixels, pixels[:, 32:]), strict=True):
        Image.fromarray(part).save(path)
    return paths


def test_match_finds_and_draws(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "matches.png"
    options = ("-m", dense_folder, "--image-size", 64, "--count", 7)
    result = run("match", *photos, "-o", target, "--json", *options)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    model = midsight.load(dense_folder, device="cpu", image_size=64)
    a, b = torch.from_numpy(model.features(list(photos), [-1])[0])
    expected = mutual_matches(a, b, (64, 96), (64, 64), 7)
    np.testing.assert_allclose([row["a"] for row in found], expected.a, atol=0.01)
    np.testing.assert_allclose([row["b"] for row in found], expected.b, atol=0.01)
    np.testing.assert_allclose([row["cosine"] for row in found], expected.cosine, atol=1e-3)
    assert f"drew {len(found)} pairs" in result.stderr
    with Image.open(target) as page:
        assert page.size == (640 + 8 + 640, 640)
    table = run("match", *photos, *options)
    assert table.stdout.splitlines()[0].split() == [
        "x",
        "in",
        "A",
        "y",
        "in",
        "A",
        "x",
        "in",
        "B",
        "y",
        "in",
        "B",
        "cosine",
    ]


def test_points_of_the_same_picture_are_found_where_they_are(dense_folder: Path, photos: tuple[Path, Path]) -> None:
    result = run(
        "match", photos[0], photos[0], "--points", "12,20;84,36", "--json", "-m", dense_folder, "--long-side", 96
    )
    assert result.exit_code == 0, result.output
    for row in map(json.loads, result.stdout.splitlines()):
        np.testing.assert_allclose(row["a"], row["b"], atol=1e-4)
        assert row["cosine"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--points", "96,5"), 2, ["a.png", "96,5 lies outside", "96x64"]),
        (("--points", "a,5"), 2, ["--points", '"120,80"']),
        (("--points", "1,2,3"), 2, ["--points"]),
        (("--layer", "3"), 2, ["layer_idx 3", "3 blocks"]),
        (("-o", "out.jpg"), 2, ["out.jpg", ".png"]),
        (("-o", "none/out.png"), 1, ["none", "does not exist"]),
        (("--long-side", "64", "--image-size", "64"), 2, ["one of them"]),
        (("--image-size", "60"), 2, ["multiple of the patch size"]),
    ],
)
def test_wrong_arguments_of_match(
    dense_folder: Path, photos: tuple[Path, Path], arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    result = run("match", *photos, "-m", dense_folder, *arguments)
    assert result.exit_code == code, result.output
    assert all(word in result.stderr for word in words), result.stderr


def test_odd_pictures_of_match(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:200])
    result = run("match", photos[0], broken, "-m", dense_folder)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    flat = tmp_path / "flat.png"
    Image.fromarray(np.zeros((1, 300, 3), np.uint8)).save(flat)
    target = tmp_path / "out.png"
    assert run("match", flat, photos[0], "-m", dense_folder, "-o", target).exit_code == 0
    assert target.is_file()


@pytest.mark.parametrize(("options", "rows", "columns"), [((), 1, 4), (("--heads",), 3, 5), (("--layers", "-1"), 1, 2)])
def test_attention_of_a_place(
    tiny_folder: Path, photos: tuple[Path, Path], tmp_path: Path, options: tuple[str, ...], rows: int, columns: int
) -> None:
    target = tmp_path / "out.png"
    result = run("attention", photos[0], "-o", target, "--at", "50,20", "-m", tiny_folder, *options)
    assert result.exit_code == 0, result.output
    with Image.open(target) as page:
        assert page.size == (columns * (336 + 8) + 8, rows * (224 + 22 + 8))
    assert "layer 3 of 3" in result.stdout
    assert "%" in result.stdout.splitlines()[-1]


def test_attention_of_class_token_and_pooling(tiny_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("attention", photos[0], "-o", tmp_path / "out.png", "-m", tiny_folder, "--heads", "--long-side", 96)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "attention",
        "layer",
        "layer",
        "layer",
        "pooling",
    ]
    assert [line.split()[1] for line in result.stdout.splitlines()[-1:]] == ["8"]  # heads of the pooling


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--at", "50,64"), 2, ["50,64 lies outside", "96x64"]),
        (("--at", "-1,6"), 2, ["-1,6 lies outside"]),
        (("--at", "1,2;3,4"), 2, ["one place"]),
        (("--at", "here"), 2, ["--at", "here"]),
        (("--at", "1,1", "--layers", "0,9"), 2, ["layer_idx 9", "3 blocks"]),
        (("--at", "1,1", "--layers", "first"), 2, ["--layers", "first"]),
        ((), 2, ["dense", "neither class token nor attention pooling"]),
    ],
)
def test_wrong_arguments_of_attention(
    dense_folder: Path,
    photos: tuple[Path, Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    words: list[str],
) -> None:
    target = tmp_path / "out.png"
    result = run("attention", photos[0], "-o", target, "-m", dense_folder, *arguments)
    assert result.exit_code == code, result.output
    assert all(word in result.stderr for word in words), result.stderr
    assert not target.exists()


def test_odd_files_of_attention(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    flat, cut = tmp_path / "flat.png", tmp_path / "cut.png"
    Image.fromarray(np.zeros((1, 300, 3), np.uint8)).save(flat)
    cut.write_bytes(photos[0].read_bytes()[:200])
    at = ("--at", "5,0", "-m", dense_folder)
    assert run("attention", flat, "-o", tmp_path / "out.png", *at).exit_code == 0
    for file, target, code, words in (
        (cut, tmp_path / "no.png", 1, "cut.png"),
        (flat, tmp_path / "no.gif", 2, "ends in .png"),
        (flat, tmp_path / "none" / "no.png", 1, "does not exist"),
    ):
        result = run("attention", file, "-o", target, *at)
        assert (result.exit_code, target.exists()) == (code, False)
        assert words in result.stderr


def test_explore_writes_one_page(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    result = run("explore", photos[0], "-o", target, "-m", dense_folder, "--long-side", 48)
    assert result.exit_code == 0, result.output
    assert f"wrote {target}" in result.stderr
    page = target.read_text(encoding="utf-8")
    assert '"name":"a.png"' in page
    assert page.count('"name":"layer') == 3
    twice = run("explore", photos[0], photos[0], "-o", target, "-m", dense_folder, "--layers", "-1", "--no-attention")
    assert twice.exit_code == 0, twice.output
    page = target.read_text(encoding="utf-8")
    assert page.count('"name":"a.png"') == 2
    assert '"attention":[null,null]' in page


def test_explore_tells_what_it_leaves_out(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    result = run("explore", photos[0], "-o", target, "-m", dense_folder, "--image-size", 336, "--layers", "0")
    assert result.exit_code == 0, result.output
    assert "no attention, for that of 42x42 tokens" in result.stderr
    result = run("explore", photos[0], "-o", target, "-m", dense_folder, "--image-size", 520)
    assert result.exit_code == 2
    assert "more than the page holds" in result.stderr


def test_odd_files_of_explore(dense_folder: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    flat, cut = tmp_path / "flat.png", tmp_path / "cut.png"
    Image.fromarray(np.zeros((1, 300, 3), np.uint8)).save(flat)
    cut.write_bytes(photos[0].read_bytes()[:200])
    target = tmp_path / "page.html"
    assert run("explore", flat, photos[0], "-o", target, "-m", dense_folder).exit_code == 0
    target.unlink()
    for file, wanted, options, code, words in (
        (cut, target, (), 1, "cut.png"),
        (flat, tmp_path / "page.png", (), 2, "ends in .html"),
        (flat, tmp_path / "none" / "page.html", (), 1, "does not exist"),
        (flat, target, ("--layers", "0,3"), 2, "layer_idx 3"),
        (flat, target, ("--layers", ""), 2, "--layers"),
    ):
        result = run("explore", file, "-o", wanted, "-m", dense_folder, *options)
        assert (result.exit_code, wanted.exists()) == (code, False)
        assert words in result.stderr
