"""`midsight embed --ray` from the outside; `tests/library/jobs/test_job.py` has the cluster."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from midsight.cli.main import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures, the second one broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "1.png").write_bytes(b"broken")
    return folder


def run(tiny_folder: Path, *args: object) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, args), "--model", str(tiny_folder), "--device", "cpu"])


@pytest.mark.slow
def test_a_cluster_of_its_own(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows"
    first = run(tiny_folder, photos, "-o", output, "--ray")
    assert first.exit_code == 1, first.output
    lines = first.stderr.splitlines()
    assert lines[0] == f"{photos}/1.png: not a picture in any format that Pillow knows, or cut short."
    assert lines[1].startswith(f"{output}: 2 embeddings of 32 dimensions, by tiny, ")
    assert lines[1].endswith(" inputs a second")
    assert lines[2:] == ["1 of 3 could not be read"]
    assert len(pq.read_table(output)) == 3
    again = run(tiny_folder, photos, "-o", output, "--ray")
    assert "going on: 3 of 3 inputs were done before" in again.stderr
    assert again.exit_code == 1
    other = run(tiny_folder, photos, "-o", output, "--ray", "--frames", "4")
    assert other.exit_code == 2
    assert "holds work of other options (num_frames 8, now 4)" in " ".join(other.stderr.split())


def test_without_ray_the_extra_is_named(
    tiny_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(tiny_folder, photos, "-o", tmp_path / "rows", "--ray")
    assert result.exit_code == 2
    assert "pip install 'midsight[cluster]'" in " ".join(result.stderr.split())
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--actors", "2"], "--ray-address and --actors belong to --ray"),
        (["--ray", "--segments", "0"], "--segments must be above 0 seconds"),
        (["--ray", "-o", "rows.npy"], "a cluster writes a folder of Parquet files"),
        (["--ray", "-o", "nowhere/rows"], "does not exist"),
        (["--ray", "nosuch://bucket/photos"], "cannot be opened"),
    ],
)
def test_wrong_usage(
    tiny_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(tiny_folder, photos, "-o", "rows.parquet", *options)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_no_cluster_at_that_address(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    result = run(tiny_folder, photos, "-o", tmp_path / "rows", "--ray", "--ray-address", "127.0.0.1:1")
    assert result.exit_code == 2
    assert "no Ray cluster at 127.0.0.1:1" in " ".join(result.stderr.split())
