"""Folders: captions beside pictures, or classes."""

from pathlib import Path

import pytest

from midsight.data.datasets import EVALUATION_MARK, open_dataset
from midsight.errors import InputError
from tests.data.small_sets import picture


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture() if not name.endswith(".txt") else b"some words\n")


def captions(root: Path) -> tuple[dict[str, str], dict[str, int]]:
    stream = open_dataset(root).samples(epochs=1)
    return {sample.key: sample.caption for sample in stream}, dict(stream.skipped)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    put(tmp_path, "red_fox/a.png", "animals/cat/b.JPG", "cat/c.mp4", "loose.png", ".hidden/x.png", "cat/.y.png")
    (tmp_path / "README.md").write_text("notes")
    found, skipped = captions(tmp_path)
    assert found == {"red_fox/a.png": "red fox", "animals/cat/b.JPG": "cat", "cat/c.mp4": "cat"}
    assert skipped == {"missing caption": 1}


def test_a_text_beside_one_picture_asks_for_one_beside_each(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "a/x.txt", "b/y.png")
    assert captions(tmp_path) == ({"a/x.png": "some words"}, {"missing caption": 1})


def test_a_readme_text_does_not_make_a_captioned_folder(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "LICENSE.txt")
    assert captions(tmp_path) == ({"a/x.png": "a"}, {})


def test_a_folder_without_media_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty folder"):
        captions(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_dataset(tmp_path / "none")
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"ends like none of \.tar"):
        open_dataset(tmp_path / "x.zip")


def test_what_is_marked_for_evaluation_is_not_trained_on(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png")
    (tmp_path / EVALUATION_MARK).write_text("share-alike\n")
    with pytest.raises(InputError, match="evaluation only"):
        open_dataset(tmp_path)
    assert len(list(open_dataset(tmp_path, evaluation=True).samples(epochs=1))) == 1
