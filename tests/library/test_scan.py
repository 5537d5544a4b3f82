"""Which files a list of files and folders means."""

from pathlib import Path

import pytest

from midsight.errors import InputError
from midsight.library.scan import find_media, is_video


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "sub/c.mp4", "sub/d.txt", ".hidden.png", ".git/e.png", "z/f.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_folders_are_searched_in_order(tree: Path) -> None:
    names = [str(path.relative_to(tree)) for path in find_media([tree])]
    assert names == ["a.png", "b.JPG", "sub/c.mp4", "z/f.webp"]


def test_named_files_stay_whatever_they_are(tree: Path) -> None:
    missing, text = tree / "missing.jpg", tree / "sub/d.txt"
    assert find_media([missing, str(text)]) == [missing, text]


def test_each_file_comes_once(tree: Path) -> None:
    assert find_media([tree / "b.JPG", tree])[0] == tree / "b.JPG"
    assert len(find_media([tree / "b.JPG", tree])) == 4


def test_links_to_folders_are_not_followed(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    assert len(find_media([tree])) == 4


def test_nothing_to_do(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no pictures or videos"):
        find_media([tree / "empty"])
    with pytest.raises(InputError, match="no files"):
        find_media([])


def test_is_video() -> None:
    assert is_video("a.MP4")
    assert not is_video(Path("a.png"))
