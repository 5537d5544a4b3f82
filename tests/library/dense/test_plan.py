"""Which inputs a job has, and the names of their results."""

import os
from pathlib import Path

import pytest

from midsight.errors import InputError
from midsight.library.dense.plan import Item, plan


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(items: list[Item]) -> list[str]:
    return [item.name for item in items]


def known(items: list[Item]) -> dict[str, dict[str, str]]:
    """The journal of a job that has finished them."""
    return {item.key: {"name": item.name, "file_name": item.file_name, "kind": item.kind} for item in items}


def test_names_mirror_the_tree(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "in/sub/deep/b.PNG", tmp_path / "in/c.mp4", tmp_path / "lone.webp")
    items = plan([str(tmp_path / "in"), str(tmp_path / "lone.webp")], tmp_path / "out", {})
    assert names(items) == ["a", "c", "sub/deep/b", "lone"]
    assert [item.file_name for item in items] == ["a.jpg", "c.mp4", "sub/deep/b.PNG", "lone.webp"]
    assert [item.kind for item in items] == ["picture", "video", "picture", "picture"]
    assert items[0].stamp == [1, (tmp_path / "in/a.jpg").stat().st_mtime_ns]


def test_names_do_not_meet(tmp_path: Path) -> None:
    touch(*(tmp_path / "one" / name for name in ("a.jpg", "a.png", "A.webp", "a.PNG")))
    touch(tmp_path / "two/a.jpg", tmp_path / "three/two/a.jpg", tmp_path / "four/two/a.jpg")
    folders = [str(tmp_path / name) for name in ("one", "two", "three/two", "four/two")]
    items = plan(folders, tmp_path / "out", {})
    assert len({name.casefold() for name in names(items)}) == len(items) == 7
    assert names(items)[:2] == ["A", "a_png"] or names(items)[:2] == ["A", "a_jpg"]  # upper case comes first
    assert "two/a" in names(items)
    assert len({item.file_name for item in items}) == 7


def test_a_picture_is_not_written_among_the_frames_of_a_video(tmp_path: Path) -> None:
    touch(tmp_path / "clip.mp4", tmp_path / "clip/000000.png", tmp_path / "walk/000000.png", tmp_path / "walk.mp4")
    touch(tmp_path / "b.mp4/000000.png")
    items = plan([str(tmp_path)], tmp_path / "out", {})
    videos = {item.name for item in items if item.kind == "video"}
    for item in items:
        if item.kind == "picture":
            assert not any(str(parent) in videos for parent in Path(item.name).parents), item
    assert not any(".mp4" in name for name in names(items))  # overlays/b.mp4 is no folder


def test_names_that_an_earlier_run_gave_stay(tmp_path: Path) -> None:
    touch(tmp_path / "in/b.png")
    first = plan([str(tmp_path / "in")], tmp_path / "out", {})
    touch(tmp_path / "in/b.jpg")
    second = plan([str(tmp_path / "in")], tmp_path / "out", known(first))
    assert {Path(item.source).name: item.name for item in second} == {"b.jpg": "b_jpg", "b.png": "b"}


def test_names_stay_inside_and_can_be_written_anywhere(tmp_path: Path) -> None:
    odd = ["..\\..\\x.png", "12:30?.png", "a\nb.png", "...png", "x" * 251 + ".png", "n\u00e4me \u732b.png"]
    touch(*(tmp_path / "in" / name for name in odd))
    (tmp_path / "in" / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    items = plan([str(path) for path in (tmp_path / "in").iterdir()], tmp_path / "out", {})
    assert len(items) == 7
    for item in items:
        parts = item.name.split("/")
        assert len(parts) == 1
        assert not set(item.name) & set('\\:?*<>|"\n')
        assert parts[0] not in ("", ".", "..")
        assert len(item.name.encode()) <= 210
        item.file_name.encode()
    assert "n\u00e4me \u732b" in names(items)


def test_each_input_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(plan(["in", "in/a.jpg", str(tmp_path / "in/a.jpg"), "./in"], Path("out"), {})) == ["a"]


def test_results_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "out/overlays/a.png", tmp_path / "out/b.png")
    assert names(plan([str(tmp_path)], tmp_path / "out", {}, ["overlays"])) == ["a"]
    with pytest.raises(InputError, match="is one of the inputs"):
        plan([str(tmp_path)], tmp_path, {})
    with pytest.raises(InputError, match="where results are written to"):
        plan([str(tmp_path / "out/overlays/a.png")], tmp_path / "out", {}, ["overlays"])
    assert names(plan([str(tmp_path / "out" / "b.png")], tmp_path / "out", {}, ["overlays"])) == ["b"]


def test_nothing_to_work_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files were given"):
        plan([], tmp_path / "out", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures or videos in this folder"):
        plan([str(tmp_path / "empty")], tmp_path / "out", {})


def test_a_file_that_is_missing_and_a_camera_are_inputs(tmp_path: Path) -> None:
    missing, camera = plan([str(tmp_path / "no.jpg"), "camera:/dev/video3"], tmp_path / "out", {})
    assert missing.stamp == [-1, -1]
    assert (camera.kind, camera.source) == ("camera", "camera:/dev/video3")
    assert camera.name.startswith("camera__dev_video3_20")
    (again,) = plan(["camera:/dev/video3"], tmp_path / "out", known([camera]))
    assert again.name != camera.name  # even in the same second
