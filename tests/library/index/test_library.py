"""Questions to an index, with answers that numpy gives, too."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import midsight
from midsight import errors
from midsight.library.index import Filter, Indexer, Library, Query, find_index
from midsight.library.index.clusters import find_clusters
from midsight.library.index.duplicates import find_duplicates
from midsight.library.index.preview import thumbnail, try_thumbnail
from midsight.library.index.recall import make_questions, measure_recall
from midsight.library.index.report import clusters_page, duplicates_page
from tests.library.documents.makers import Sheet, write_pdf

DEMO = Path(midsight.__file__).parent / "assets" / "demo"
TEXTS = ("the invoice of the giraffe", "an invoice", "nothing of the kind")


@pytest.fixture(scope="session")
def photos(tiny_model: midsight.Perception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An indexed folder: noise in two folders, a video, a document of three pages."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a b").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (32, 32 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("a b" if i % 3 == 0 else "") / f"{i:02d}.png")
        os.utime(folder / ("a b" if i % 3 == 0 else "") / f"{i:02d}.png", (i, i))
    (folder / "clip.mp4").symlink_to(next(DEMO.glob("*.mp4")))
    write_pdf(folder / "report.pdf", [Sheet([(72, 72, 20, text)]) for text in TEXTS])
    with Indexer(tiny_model, folder, decoder=None, batch_size=1) as indexer:
        assert all(outcome.result == "indexed" for outcome in indexer.run())
    return folder


@pytest.fixture
def library(photos: Path) -> Any:
    with Library(photos) as opened:
        yield opened


def everything(library: Library) -> tuple[list[str], np.ndarray[Any, Any]]:
    batches = list(library.store.scan(["id", "embedding"]))
    rows = [row for batch in batches for row in batch.to_pylist()]
    return [row["id"] for row in rows], np.array([row["embedding"] for row in rows], np.float32)


def ids(library: Library, query: Query, model: Any = None) -> list[str]:
    return [hit.id for hit in library.search(query, model)]


def test_words_and_pictures_and_videos_are_mixed_as_numpy_does(
    library: Library, photos: Path, tiny_model: midsight.Perception
) -> None:
    rows, matrix = everything(library)
    text = tiny_model.embed_texts("a red bicycle")[0]
    image = tiny_model.embed_images(photos / "01.png")[0]
    clip = tiny_model.embed_videos(photos / "clip.mp4")[0]
    no_text, no_image = tiny_model.embed_texts("at night")[0], tiny_model.embed_images(photos / "02.png")[0]
    query = Query(
        texts=("a red bicycle",), images=(photos / "01.png",), videos=(photos / "clip.mp4",), rows=(rows[3],),
        weights=(2.0, 0.5, 0.3, -0.2), without_texts=("at night",), without_images=(photos / "02.png",), words="",
    )  # fmt: skip
    vector = 2 * text + 0.5 * image + 0.3 * clip - 0.2 * matrix[3] - no_text - no_image
    scores = matrix @ (vector / np.linalg.norm(vector))
    expected = [rows[i] for i in np.argsort(-scores) if i != 3][:10]
    hits = library.search(query, tiny_model)
    assert [hit.id for hit in hits] == expected
    assert hits[0].score == hits[0].similarity == pytest.approx(scores.max(), abs=1e-5)


def test_hits_say_where_they_are(library: Library, photos: Path, tiny_model: midsight.Perception) -> None:
    hit = library.search(Query(images=(photos / "a b" / "03.png",)), tiny_model)[0]
    assert (hit.path, hit.file, hit.kind, hit.width, hit.height) == (
        "a b/03.png", photos / "a b" / "03.png", "image", 35, 32,
    )  # fmt: skip
    assert (hit.start, hit.page, hit.mtime, hit.score) == (None, None, 3.0, pytest.approx(1, abs=1e-5))
    video = library.search(Query(videos=(photos / "clip.mp4",), where=Filter(kinds=("video",)), top=1), tiny_model)[0]
    assert (video.path, video.start) == ("clip.mp4", 0.0)
    page = library.search(Query(words="giraffe"))[0]
    assert (page.path, page.page, page.text) == ("report.pdf", 1, TEXTS[0])
    assert library.hit(page.id) == replace(page, score=1.0, similarity=1.0)


def test_more_like_this_needs_no_torch(library: Library) -> None:
    row = everything(library)[0][5]
    script = (
        "import sys; from midsight.library.index import Library, Query; "
        "print(*(hit.id for hit in Library(sys.argv[1]).search(Query(rows=(sys.argv[2],))))); "
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(library.folder), row]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ids(library, Query(rows=(row,)))


def test_more_like_this_needs_no_model(library: Library) -> None:
    rows, matrix = everything(library)
    expected = [rows[i] for i in np.argsort(-matrix @ matrix[5]) if i != 5][:4]
    assert ids(library, Query(rows=(rows[5],), top=4)) == expected
    with pytest.raises(errors.InputError, match="no row has the id"):
        library.search(Query(rows=("0" * 32,)))


def test_words_are_looked_for_in_pages_as_well(library: Library, tiny_model: midsight.Perception) -> None:
    rows, matrix = everything(library)
    query = Query(texts=("invoice giraffe",))
    hits = library.search(query, tiny_model)
    by_meaning = [rows[i] for i in np.argsort(-matrix @ tiny_model.embed_texts("invoice giraffe")[0])]
    pages = [hit for hit in hits if hit.kind == "page"]
    assert [hit.page for hit in pages[:2]] == [1, 2]
    for rank, hit in enumerate(pages[:2], start=1):
        expected = 1 / (60 + rank) + 1 / (60 + 1 + by_meaning.index(hit.id))
        assert hit.score == pytest.approx(expected, abs=1e-9)
    assert ids(library, replace(query, words=""), tiny_model) == by_meaning[:10]
    assert [hit.page for hit in library.search(Query(words="invoice"))] == [2, 1]


def test_filters_reach_both_searches(library: Library, tiny_model: midsight.Perception) -> None:
    query = Query(texts=("invoice",), top=50, where=Filter(paths=("a b/*",), before=7.0))
    assert sorted(hit.path for hit in library.search(query, tiny_model)) == ["a b/00.png", "a b/03.png", "a b/06.png"]


def test_questions_that_cannot_be(library: Library, photos: Path, tiny_model: midsight.Perception) -> None:
    for options, message in (
        ({}, "nothing to look for"), ({"texts": (" ",)}, "an empty text"), ({"texts": "cat"}, "must be a tuple"),
        ({"texts": ("a",), "weights": (1.0, 2.0)}, "2 weights for 1 examples"),
        ({"texts": ("a",), "top": 0}, "top must"),
        ({"texts": ("a",), "weights": (float("nan"),)}, "must be numbers"),
    ):  # fmt: skip
        with pytest.raises(errors.InputError, match=message):
            Query(**options)  # type: ignore[arg-type]
    with pytest.raises(errors.InputError, match="cancel each other"):
        library.search(Query(texts=("a",), without_texts=("a",)), tiny_model)
    with pytest.raises(errors.InputError, match="give the model"):
        library.search(Query(texts=("a",)))
    with pytest.raises(errors.MediaError, match="no such file"):
        library.search(Query(images=(photos / "none.png",)), tiny_model)


def test_the_model_of_another_layer_is_another_model(
    library: Library, tiny_folder: Path, photos: Path, tiny_model: midsight.Perception
) -> None:
    layer = midsight.load(tiny_folder, device="cpu", layer=1)
    with pytest.raises(errors.InputError, match="is another model"):
        library.search(Query(images=(photos / "01.png",)), layer)


def test_finding_an_index(photos: Path, tmp_path: Path) -> None:
    index = photos / ".midsight"
    assert find_index(index) == find_index(photos) == index
    assert find_index(photos / "a b").samefile(index)
    (tmp_path / "here").symlink_to(photos)
    assert find_index(tmp_path).samefile(index)
    (tmp_path / "there").symlink_to(photos)
    with pytest.raises(errors.InputError, match="several folders in it are indexed .*Name one: --index"):
        find_index(tmp_path)
    with pytest.raises(errors.InputError, match="no index is there. Make one: midsight index DIR"):
        find_index(tmp_path / "nowhere")


def test_recall_is_that_of_numpy(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_recall(library.store) == 1.0
    questions = make_questions(library.store, 5)
    np.testing.assert_allclose(np.linalg.norm(questions, axis=1), 1, atol=1e-6)
    search = library.store.search

    def forgetful(vector: Any, top: int, exact: bool = False) -> Any:
        return search(vector, top) if exact else search(vector, top)[3:]

    monkeypatch.setattr(library.store, "search", forgetful)
    assert measure_recall(library.store, questions) == pytest.approx(0.7)
    with pytest.raises(errors.InputError, match="questions must be"):
        measure_recall(library.store, questions[:, :3])


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pictures with copies of some, indexed by the embedded model."""
    folder = tmp_path_factory.mktemp("copies")
    for path in DEMO.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "same.jpg").write_bytes((DEMO / "cat.jpg").read_bytes())
    picture = Image.open(DEMO / "rocket.jpg")
    picture.resize((picture.width // 2, picture.height // 2)).save(folder / "small.jpg", quality=60)
    with Indexer(midsight.load(device="cpu"), folder, decoder=None) as indexer:
        assert all(outcome.result == "indexed" for outcome in indexer.run())
    return folder


def test_duplicates(copies: Path) -> None:
    with Library(copies) as library:
        groups = find_duplicates(library)
        found = {tuple(copy.path for copy in group.copies) for group in groups}
        assert found == {("cat.jpg", "same.jpg"), ("rocket.jpg", "small.jpg")}
        of_cat, of_rocket = sorted(groups, key=lambda group: group.copies[0].path)
        assert [copy.equal for copy in of_cat.copies] == [True, True]
        assert [copy.equal for copy in of_rocket.copies] == [True, False]
        assert 0.85 < of_rocket.copies[1].similarity < 1
        assert of_cat.spare == (copies / "cat.jpg").stat().st_size
        (equal,) = find_duplicates(library, 1.0)
        assert [copy.path for copy in equal.copies] == ["cat.jpg", "same.jpg"]
        assert find_duplicates(library, where=Filter(paths=("c*",))) == []
        with pytest.raises(errors.InputError, match="similarity must be"):
            find_duplicates(library, 0)
        page = duplicates_page(library.root, groups)
    assert page.count("<h2>") == 2
    assert page.count("data:image/jpeg;base64") == 4
    assert "same bytes" in page


def test_clusters(copies: Path) -> None:
    with Library(copies) as library:
        model = library.open_model("cpu")
        clusters = find_clusters(library, 4, words=("cat", "rocket", "coffee", "motorcycle"), model=model)
        assert {frozenset(member.path for member in cluster.members): cluster.names[0] for cluster in clusters} == {
            frozenset(("cat.jpg", "same.jpg")): "cat", frozenset(("rocket.jpg", "small.jpg")): "rocket",
            frozenset(("coffee.jpg",)): "coffee", frozenset(("motorcycle.jpg",)): "motorcycle",
        }  # fmt: skip
        assert clusters == find_clusters(library, 4, words=("cat", "rocket", "coffee", "motorcycle"), model=model)
        members = [member for cluster in clusters for member in cluster.members]
        assert all(0 <= (member.x or 0) <= 1 and 0 <= (member.y or 0) <= 1 for member in members)
        assert members[0].similarity > 0.9
        (one,) = find_clusters(library, where=Filter(paths=("cat.jpg",)))
        assert (len(one.members), one.names) == (1, ())
        with pytest.raises(errors.InputError, match="7 clusters of 6 entries"):
            find_clusters(library, 7)
        page = clusters_page(library.root, clusters)
    assert page.count("<circle") == 6
    assert page.count("<h2") == 4


def test_thumbnails(photos: Path) -> None:
    for data in (
        thumbnail(photos / "01.png", "image", side=24),
        thumbnail(photos / "clip.mp4", "video", start=1.0, side=24),
        thumbnail(photos / "report.pdf", "page", page=2, side=24),
    ):
        picture = Image.open(io.BytesIO(data))
        assert picture.format == "JPEG"
        assert max(picture.size) == 24
    assert try_thumbnail(photos / "gone.png", "image") is None
    with pytest.raises(errors.MediaError):
        thumbnail(photos / "report.pdf", "page", page=9)
