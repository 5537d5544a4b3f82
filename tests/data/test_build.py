"""Packaged pictures to shards: terms carried along, stops survived, evaluation sets kept apart."""

import json
from pathlib import Path

import pytest

from midsight.data import build, packaged
from midsight.data.datasets import open_dataset
from midsight.data.packaged import Picture
from midsight.errors import InputError, OutputError
from tests.data import small_sets


def pictures(root: Path, count: int = 5, source: str = "emoji-datasource-twitter") -> list[Picture]:
    root.mkdir(exist_ok=True)
    found = []
    for k in range(count):
        path = root / f"1f60{k}.x.png"
        path.write_bytes(small_sets.picture(k))
        author = "A. Painter" if k == 0 else ""
        found.append(Picture(path, "drawing", (f"face {k}", "smile"), source, "CC-BY-4.0", author))
    return found


def test_samples_carry_caption_keywords_and_terms(tmp_path: Path) -> None:
    made = build.write_pictures("faces", pictures(tmp_path / "root"), tmp_path / "out", tmp_path / "root", per_shard=2)
    assert (len(made.shards), made.samples, made.failures) == (3, 5, {})
    samples = {sample.caption: sample for sample in open_dataset(tmp_path / "out").samples(epochs=1)}
    assert sorted(samples) == [f"face {k}" for k in range(5)]
    first, second = samples["face 0"], samples["face 1"]
    assert first.media == small_sets.picture(0)
    assert first.facts["keywords"] == ["smile"]
    assert (first.facts["licence"], first.facts["author"]) == ("CC-BY-4.0", "A. Painter")
    assert (second.facts["source"], second.facts["author"]) == (
        "emoji-datasource-twitter", "Twemoji, Twitter and contributors",
    )  # fmt: skip
    terms = (tmp_path / "out/ATTRIBUTION.txt").read_text()
    assert "4 pictures, CC-BY-4.0, by Twemoji, Twitter and contributors" in terms
    assert "1 pictures, CC-BY-4.0, by A. Painter" in terms


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = pictures(tmp_path / "root")
    found[2].path.write_bytes(b"no picture")
    made = build.write_pictures("faces", found, tmp_path / "out", tmp_path / "root")
    assert made.samples == 4
    assert list(made.failures) == ["emoji-datasource-twitter/1f602.x.png"]


def test_a_stopped_build_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    found = pictures(root)
    whole = build.write_pictures("faces", found, tmp_path / "whole", root, per_shard=2)
    real, calls = build._files, []

    def stopping(picture: Picture, root: Path) -> dict[str, bytes]:
        calls.append(picture)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(picture, root)

    monkeypatch.setattr(build, "_files", stopping)
    with pytest.raises(KeyboardInterrupt):
        build.write_pictures("faces", found, tmp_path / "out", root, per_shard=2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["faces-000000.tar", "journal.jsonl"]
    again = build.write_pictures("faces", found, tmp_path / "out", root, per_shard=2)
    assert len(calls) == 4 + 3  # the first shard is not made again
    assert [p.read_bytes() for p in again.shards] == [p.read_bytes() for p in whole.shards]
    assert again.samples == 5


def test_another_build_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    build.write_pictures("faces", pictures(root), tmp_path / "out", root)
    with pytest.raises(OutputError, match="pictures differ"):
        build.write_pictures("faces", pictures(root, 4), tmp_path / "out", root)


def test_sets_for_evaluation_are_built_only_when_asked_for_and_then_marked(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    held_out = pictures(root, source="openmoji")
    with pytest.raises(InputError, match="evaluation only"):
        build.write_pictures("faces", held_out, out, root)
    with pytest.raises(InputError, match="evaluation only"):
        build.build("open-moji", out, root)  # and nothing is fetched
    assert not out.exists()
    build.write_pictures("faces", held_out, out, root, evaluation=True)
    with pytest.raises(InputError, match="evaluation only"):
        open_dataset(out)
    with pytest.raises(InputError, match="evaluation only"):
        open_dataset(out / "faces-000000.tar")
    samples = list(open_dataset(out, evaluation=True).samples(epochs=1))
    assert all(sample.facts["evaluation_only"] for sample in samples)


def test_a_named_build_from_unpacked_packages(tmp_path: Path) -> None:
    for name, png in (("openclipart-png", "usr/share/openclipart/png/animals/oak_leaf.png"),):
        path = tmp_path / name / png
        path.parent.mkdir(parents=True)
        path.write_bytes(small_sets.picture())
        (tmp_path / name / ".complete").touch()
    made = build.build("clip-art", tmp_path / "out", tmp_path)
    (sample,) = open_dataset(made.shards[0]).samples(epochs=1)
    assert (sample.caption, sample.facts["licence"]) == ("oak leaf", "public domain")
    with pytest.raises(InputError, match="Known are emoji"):
        build.build("imagenet", tmp_path / "out", tmp_path)


def test_drawings_are_rasterised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(svg: Path, target: Path, size: int) -> None:
        target.write_bytes(small_sets.picture(len(svg.name), size))

    monkeypatch.setattr(packaged, "_draw", draw)
    svg = tmp_path / "fox.svg"
    svg.write_text("<svg/>")
    found = [Picture(svg, "drawing", ("fox",), "fluentui-emoji", "MIT")]
    made = build.write_pictures("d", found, tmp_path / "out", tmp_path)
    (sample,) = open_dataset(made.shards[0]).samples(epochs=1)
    assert sample.media == small_sets.picture(7, 256)
    assert json.loads((tmp_path / "out/journal.jsonl").read_text().splitlines()[1])["samples"] == 1
