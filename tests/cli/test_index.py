"""`midsight index`, `search`, `dedupe` and `cluster` as they are typed."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from midsight.library import index as library
from tests.conftest import save_tiny

DEMO = Path(midsight.__file__).parent / "assets" / "demo"


@pytest.fixture(autouse=True)
def fast_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process: starting another one takes longer than these folders."""
    monkeypatch.setattr(library, "Indexer", partial(library.Indexer, decoder=None))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    shutil.copytree(DEMO, folder)
    (folder / "cut.jpg").write_bytes((DEMO / "cat.jpg").read_bytes()[:2000])
    return folder


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_index_and_search(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("index", photos)
    assert done.exit_code == 1, done.stderr
    assert "6 read" in done.stderr
    assert "5 entries of 6 files, by embedded" in done.stderr
    assert "cut.jpg: cut short or broken" in done.stderr
    again = run("index", photos)
    assert again.exit_code == 1
    assert "6 unchanged" in again.stderr
    assert "1 of 6 files could not be read" in again.stderr
    failed = lines(run("index", photos, "--failed", "--json"))
    assert [(entry["path"], entry["result"]) for entry in failed] == [("cut.jpg", "failed")]
    assert "cut.jpg" in run("index", photos, "--failed").stdout
    (photos / "cut.jpg").unlink()
    mended = run("index", photos, "--json")
    assert mended.exit_code == 0
    assert [(entry["did"], Path(entry["path"]).name) for entry in lines(mended)] == [("removed", "cut.jpg")]
    monkeypatch.chdir(photos.parent)
    hits = lines(run("search", "a", "cat", "--json"))
    assert [hit["path"] for hit in hits][0] == "cat.jpg"
    assert len(hits) == 5
    assert hits[0]["file"] == str(photos / "cat.jpg")
    monkeypatch.chdir(photos)
    table = run("search", "--image", DEMO / "rocket.jpg", "--kind", "image", "--top", "1")
    assert table.stdout.split() == ["score", "file", "1.000", "rocket.jpg"]
    assert [h["path"] for h in lines(run("search", "temple", "--path", "*.mp4", "--json"))] == ["temple.mp4"]
    like = lines(run("search", "--like", hits[0]["id"], "--min-size", "40k", "--json"))
    assert like
    assert all(hit["size"] >= 40_000 and hit["path"] != "cat.jpg" for hit in like)
    nothing = run("search", "cat", "--tag", "holiday")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr.strip()) == (0, "", "nothing fits")


def test_wrong_questions(photos: Path, tmp_path: Path) -> None:
    assert run("index", photos / "cat.jpg").exit_code == 2
    assert "no index is there. Make one: midsight" in run("search", "cat", "--index", tmp_path / "nowhere").stderr
    run("index", photos)
    told = run("search", "cat", photos)
    assert told.exit_code == 2
    assert told.stderr.strip().endswith(f"--index {photos}")
    for options, message in (
        ((), "nothing to look for"), (("cat", "--after", "May"), "--after must be a date"),
        (("cat", "--min-size", "big"), "--min-size must be a size"),
        (("cat", "--weights", "a"), "--weights must be numbers"), (("cat", "--kind", "movie"), "no kind 'movie'"),
    ):  # fmt: skip
        result = run("search", *options, "--index", photos)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert run("index", photos, "--timeout", 0).exit_code == 2
    missing = run("search", "--image", photos / "none.jpg", "--index", photos)
    assert (missing.exit_code, "no such file" in missing.stderr) == (1, True)


def test_another_model(photos: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=3)
    run("index", photos)
    refused = run("index", photos, "--model", other)
    assert (refused.exit_code, "--reembed" in refused.stderr) == (2, True)
    asked = run("search", "cat", "--index", photos, "--model", other)
    assert (asked.exit_code, "another model" in asked.stderr) == (2, True)
    assert run("index", photos, "--model", other, "--reembed").exit_code == 1
    assert "by other" in run("index", photos).stderr, "the index's own model is the default"
    assert len(lines(run("search", "cat", "--index", photos, "--json"))) == 5
    changed = run("index", photos, "--clip-seconds", 1)
    assert (changed.exit_code, "clip_seconds=1.0" in changed.stderr) == (2, True)
    run("index", photos, "--clip-seconds", 1, "--reembed")
    assert len(lines(run("search", "cat", "--kind", "video", "--index", photos, "--json"))) > 1


def test_a_fresh_process_says_the_same(photos: Path, tmp_path: Path) -> None:
    """There the question is embedded beside the opening of the index; here, with torch loaded, behind it."""
    run("index", photos)
    other = save_tiny(tmp_path / "other", seed=3)
    for words, code in (
        (("a cat", "--without", "coffee", "--image", photos / "rocket.jpg", "--json"), 0),
        (("--image", photos / "none.jpg"), 1),
        (("a cat", "--model", other), 2),
    ):
        command = [sys.executable, "-m", "midsight.cli.main", "search", *map(str, words), "--index", str(photos)]
        fresh = subprocess.run(command, capture_output=True, text=True, check=False)
        here = run("search", *words, "--index", photos)
        assert (fresh.returncode, here.exit_code) == (code, code), fresh.stderr
        assert fresh.stderr.split() == here.stderr.split()
        assert [hit["id"] for hit in map(json.loads, fresh.stdout.splitlines())] == [hit["id"] for hit in lines(here)]


def test_dedupe_and_cluster(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "cat.jpg", photos / "cat2.jpg")
    run("index", photos)
    (group,) = lines(run("dedupe", photos, "--json"))
    assert [entry["path"] for entry in group["files"]] == ["cat.jpg", "cat2.jpg"]
    shown = run("dedupe", photos, "--out", tmp_path / "d.html")
    assert "same bytes" in shown.stdout
    assert "1 groups of 2 files" in shown.stderr
    assert "<h2>Group 1</h2>" in (tmp_path / "d.html").read_text()
    clusters = run("cluster", photos, "--count", 2, "--out", tmp_path / "c.html")
    assert clusters.exit_code == 0, clusters.stderr
    assert len(clusters.stdout.splitlines()) == 3
    assert "<svg" in (tmp_path / "c.html").read_text()
    found = lines(run("cluster", photos, "--count", 1, "--words", "cat,dog", "--json"))
    assert len(found[0]["members"]) == 6
    assert sorted(found[0]["names"]) == ["cat", "dog"]
    assert lines(run("cluster", photos, "--no-names", "--count", 1, "--json"))[0]["names"] == []


def test_tags(photos: Path) -> None:
    run("index", photos)
    assert "which files?" in run("tag", "sea", photos).stderr
    assert "2 files got the tag sea" in run("tag", "sea", "--path", "c*.jpg", photos).stderr
    found = lines(run("search", "cat", "--tag", "sea", "--index", photos, "--json"))
    assert {(hit["path"], *hit["tags"]) for hit in found} == {("cat.jpg", "sea"), ("coffee.jpg", "sea")}
    assert "1 files lost" in run("tag", "sea", "--remove", "--path", "cat.jpg", photos).stderr
