"""`midsight export`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from midsight.cli.main import app
from midsight.export import read_card
from midsight.export.towers import ImageEmbedding


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_both_towers_with_what_was_measured(tiny_folder: Path, tmp_path: Path) -> None:
    result = run("export", tiny_folder, "-o", tmp_path / "out", "--to", "pt2", "--dynamic")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 9  # heading, two towers at two sizes and two batches
    assert lines[2].split()[:3] == ["image.pt2", "7x3x32x32", "embedding"]
    assert "x eager (" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image.pt2", "report.json", "text.pt2"]


def test_maps_of_a_block_as_json(dense_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("export", dense_folder, "-o", out, "--to", "pt2", "--layer", 1, "--as-maps", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["card"]["layer"] == 1
    assert record["card"]["output"]["shape"] == ["batch", 48, 4, 4]
    assert record["path"] == str(out / "image.pt2")
    assert read_card(out / "image.pt2").output.shape == ("batch", 48, 4, 4)


def test_exit_codes(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = run("export", tiny_folder, "-o", tmp_path / "out", "--to", "tflite")
    assert wrong.exit_code == 2
    assert "onnx, openvino, pt2" in wrong.stderr
    monkeypatch.setattr(ImageEmbedding, "forward", lambda self, images: images * int(images.sum()))
    failed = run("export", tiny_folder, "-o", tmp_path / "out", "--to", "pt2")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: torch.export cannot follow the image tower")
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = run("export", tiny_folder, "-o", tmp_path / "out", "--to", "pt2")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_a_head_with_what_was_measured(dense_folder: Path, segment_head: Path, tmp_path: Path) -> None:
    result = run("export", dense_folder, "--head", segment_head, "-o", tmp_path / "out", "--to", "pt2")
    assert result.exit_code == 0, result.stderr
    heading, first, second = (line.split() for line in result.stdout.splitlines())
    assert (heading[-1], first[-1], second[-1]) == ("same", "100.00%", "100.00%")
    assert first[:3] == ["segmentation.pt2", "1x3x32x32", "logits"]
    card = read_card(tmp_path / "out" / "segmentation.pt2")
    assert card.head is not None
    assert card.head.classes == ("sky", "wall", "cup", "cat", "class 4")


def test_a_head_that_cannot_be(dense_folder: Path, tiny_folder: Path, segment_head: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", "--to", "onnx")
    nothing = run("export", *out)
    assert nothing.exit_code == 2
    assert "a model (SOURCE), or a head (--head)" in nothing.stderr
    unknown = run("export", "--head", "segmant", *out)
    assert unknown.exit_code == 2
    assert "no head 'segmant'; did you mean segment" in unknown.stderr
    other = run("export", tiny_folder, "--head", segment_head, *out)
    assert other.exit_code == 2
    assert "they differ in" in other.stderr
    assert list(tmp_path.iterdir()) == []
