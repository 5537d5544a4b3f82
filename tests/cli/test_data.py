"""`midsight data`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midsight.cli.main import app
from midsight.data.scenes import BuiltScenes, SceneOptions, write
from tests.data import small_sets

RUN = CliRunner()


def test_check_counts_and_names(tmp_path: Path) -> None:
    folder = small_sets.captioned_folder(tmp_path / "d", 3)
    assert RUN.invoke(app, ["data", "check", str(folder)]).exit_code == 0
    (folder / "0001.txt").unlink()
    (folder / "0002.png").write_bytes(b"x")
    result = RUN.invoke(app, ["data", "check", "--json", str(folder)])
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert (record["samples"], record["skipped"]) == (1, {"missing caption": 1, "unreadable picture": 1})
    assert "0001.png" in record["examples"]["missing caption"]
    quick = RUN.invoke(app, ["data", "check", "--json", "--no-decode", str(folder)])
    assert json.loads(quick.stdout)["samples"] == 2


def test_check_of_a_data_set_that_is_useless_or_missing(tmp_path: Path) -> None:
    small_sets.write_shard(tmp_path / "s.tar", {})
    result = RUN.invoke(app, ["data", "check", "--json", str(tmp_path / "s.tar")])
    assert (result.exit_code, json.loads(result.stdout)["skipped"]) == (1, {"empty shard": 1})
    assert RUN.invoke(app, ["data", "check", str(tmp_path / "none")]).exit_code == 2


def test_build_says_where_the_terms_are_and_refuses_by_default(tmp_path: Path) -> None:
    path = tmp_path / "w/openclipart-png/usr/share/openclipart/png/animals/oak_leaf.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(small_sets.picture())
    (tmp_path / "w/openclipart-png/.complete").touch()
    options = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "out")]
    result = RUN.invoke(app, ["data", "build", "clip-art", *options])
    assert result.exit_code == 0
    assert "1 samples in 1 shards" in result.stderr
    assert (tmp_path / "out/ATTRIBUTION.txt").exists()
    refused = RUN.invoke(app, ["data", "build", "open-moji", *options])
    assert refused.exit_code == 2
    assert "--evaluation" in refused.stderr


def test_caption_by_the_scenes_own_words(tmp_path: Path) -> None:
    clip = (Path(__file__).parents[1] / "media" / "b_frames.mp4").read_bytes()
    files = {"mp4": clip, "json": b'{"captions": ["a chair", "A chair turns."]}'}
    small_sets.write_shard(tmp_path / "in.tar", {"a": files, "b": files})
    (tmp_path / "edits.jsonl").write_text('{"key": "in.tar:b", "caption": "A stool."}\n{"key": "x", "remove": true}\n')
    options = ["--out", str(tmp_path / "out"), "--edits", str(tmp_path / "edits.jsonl"), "--frames", "2"]
    result = RUN.invoke(app, ["data", "caption", str(tmp_path / "in.tar"), *options])
    assert result.exit_code == 0, result.stderr
    assert "2 clips, 1 captions by people" in result.stderr
    assert "1 edits are of no clip here: x" in result.stderr
    checked = RUN.invoke(app, ["data", "check", "--json", "--frames", "2", str(tmp_path / "out")])
    assert json.loads(checked.stdout)["samples"] == 2


def test_scenes_hands_its_options_on_and_names_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def build_scenes(out: Path, count: int, seed: int, *, progress: Callable[[int], None], **rest: Any) -> BuiltScenes:
        asked.update(rest, out=out, count=count, seed=seed)
        progress(count)
        return BuiltScenes((out / "scenes-000000.tar",), count - 1, {"no place for a table": 1}, {"chair.obj": "cut"})

    monkeypatch.setattr(write, "packaged_stock", lambda root: ("stock", root))
    monkeypatch.setattr(write, "build_scenes", build_scenes)
    options = ["--count", "5", "--seed", "3", "--clips", "--size", "64", "--work", str(tmp_path / "w")]
    result = RUN.invoke(app, ["data", "scenes", "--out", str(tmp_path), *options])
    assert result.exit_code == 0, result.stderr
    assert asked == {
        "out": tmp_path, "count": 5, "seed": 3, "clips": True, "per_shard": 256,
        "stock": ("stock", tmp_path / "w"), "options": SceneOptions(size=64),
    }  # fmt: skip
    assert "1 scenes are left out: no place for a table" in result.stderr
    assert "chair.obj cannot be used: cut" in result.stderr
    assert "4 samples in 1 shards" in result.stderr
