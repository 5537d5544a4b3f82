"""Pictures without text: what the embedded encoder says by itself, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midsight
from midsight.api import Perception
from midsight.errors import InputError, MediaError
from midsight.library.documents.ask import DocumentAsker
from midsight.library.documents.asked import Asked
from midsight.library.documents.batch import record
from midsight.library.documents.pages import PageId, Reader
from midsight.library.documents.seen import Eye, visible_names
from midsight.plm import PLM
from tests.library.documents.makers import INVOICE, Sheet, picture_of, tiny_plm, write_pdf

DEMO = Path(midsight.__file__).parent / "assets" / "demo"
CAT, CLIP = str(DEMO / "cat.jpg"), str(DEMO / "temple.mp4")


@pytest.fixture(scope="module")
def looks() -> Perception:
    return midsight.load(device="cpu", threads=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MIDSIGHT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny_plm(tmp_path_factory.mktemp("blind"), sees=False, context=2048)


@pytest.fixture
def asker(blind: PLM, looks: Perception, cache: Path) -> Iterator[DocumentAsker]:
    with Reader("never") as reader:
        yield DocumentAsker(blind, reader, looks=lambda: looks)


@pytest.mark.parametrize(
    ("name", "question", "answers"),
    [
        ("cat.jpg", "What is this?", ["cat"]),
        ("coffee.jpg", "What is in this picture?", ["espresso", "coffee"]),
        ("cat.jpg", "Is there a cat in the picture?", ["Yes"]),
        ("cat.jpg", "Is there an animal?", ["Yes"]),
        ("cat.jpg", "Are there any animals?", ["Yes"]),
        ("cat.jpg", "What animal is this?", ["cat"]),
        ("coffee.jpg", "What drink is this?", ["espresso", "coffee"]),
        ("cat.jpg", "Is there a vehicle?", ["No"]),
        ("cat.jpg", "Is there a bus?", ["No"]),
        ("motorcycle.jpg", "Is there a motorcycle?", ["Yes"]),
        ("motorcycle.jpg", "Is there a cat?", ["No"]),
        ("motorcycle.jpg", "Is it a cat, a bicycle, a motorcycle or a boat?", ["motorcycle"]),
        ("temple.mp4", "Is it a temple, a cat or a bus?", ["temple"]),
        ("temple.mp4", "Is there a building in the video?", ["Yes"]),
    ],
)
def test_the_demo(asker: DocumentAsker, name: str, question: str, answers: list[str]) -> None:
    assert asker.ask([str(DEMO / name)], question).answer in answers


def test_an_answer_comes_with_the_names_that_it_rests_on(asker: DocumentAsker) -> None:
    shown: list[str] = []
    reply = asker.ask([CAT], "What is this?", show=shown.append)
    assert (shown, reply.pages[0].id, reply.boxes) == (["cat"], PageId(CAT, 1), ())
    scores = [name.score for name in reply.names]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) < 1
    assert record(reply)["names"][0] == {"name": "cat", "score": round(scores[0], 4)}
    asked = asker.ask([CAT], "Is there a dog?").names
    assert (asked[0].label, asked[1].label) == ("dog", "cat")
    assert asked[0].score < 0.1  # of all its breeds together
    asked = asker.ask([CAT], "Is there a cat?").names
    assert asked[0].score > reply.names[0].score  # persian cats and the like with it
    assert [name.label for name in asked].count("cat") == 1
    assert [name.label for name in asker.ask([CAT], "Is it a cup or a cat?").names] == ["cat", "cup"]


def test_a_video_is_looked_at_between_its_times(asker: DocumentAsker, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[Any] = []
    eye = asker._opened_eye()
    assert eye is not None
    real = eye.answer_frames
    monkeypatch.setattr(eye, "answer_frames", lambda asked, some: frames.append(some) or real(asked, some))
    assert asker.ask([CLIP], "What is this?").pages == ()
    assert frames[0].shape[0] == 8
    assert np.ptp(frames[0].astype(int).mean((1, 2, 3))) >= 0
    with pytest.raises(InputError, match=r"a video, but the model reads text only.*Is there a dog"):
        asker.ask([CLIP], "What moves?")
    with pytest.raises(InputError, match="a video, but"):
        asker.ask([CLIP, CLIP], "What is this?")


@pytest.mark.parametrize("question", ["How many cats are there?", "What colour is it?", "Is there a person?"])
def test_what_the_encoder_does_not_know_is_refused(asker: DocumentAsker, question: str) -> None:
    with pytest.raises(InputError, match=r"cat\.jpg.*reads text only.*What is this"):
        asker.ask([CAT], question)


def test_one_picture_at_a_time(asker: DocumentAsker) -> None:
    with pytest.raises(InputError, match="one of 2 pictures without text; ask about one at a time"):
        asker.ask([CAT, str(DEMO / "coffee.jpg")], "What is this?")


def test_pages_with_text_are_read_and_not_looked_at(asker: DocumentAsker, tmp_path: Path) -> None:
    invoice = str(write_pdf(tmp_path / "invoice.pdf", [Sheet(INVOICE)]))
    for question in ("What is the total?", "Is there a total?", "What is this?"):
        reply = asker.ask([invoice], question)
        assert reply.names == ()
        assert record(reply)["names"] == []


def test_a_picture_that_is_full_of_text_is_read(blind: PLM, looks: Perception, cache: Path, tmp_path: Path) -> None:
    picture_of([(40, 30 * n + 20, text) for n, (_, _, _, text) in enumerate(INVOICE)], (700, 800)).save(
        tmp_path / "invoice.png"
    )
    with Reader("always") as reader:
        asker = DocumentAsker(blind, reader, looks=lambda: looks)
        assert asker.ask([str(tmp_path / "invoice.png")], "Is there a total?").names == ()
        assert asker.ask([CAT], "What is this?").answer == "cat"


def test_a_pdf_of_a_photograph_is_looked_at(asker: DocumentAsker, tmp_path: Path) -> None:
    from PIL import Image

    Image.open(CAT).save(tmp_path / "cat.pdf")
    assert asker.ask([str(tmp_path / "cat.pdf")], "Is it a cat or a truck?").answer == "cat"


def test_without_an_encoder_nothing_changes(blind: PLM) -> None:
    with Reader("never") as reader, pytest.raises(InputError, match=r"has no text of its own.*--ocr auto.*--plm"):
        DocumentAsker(blind, reader).ask([CAT], "What is this?")


def test_a_picture_that_is_broken_is_named(asker: DocumentAsker, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(Path(CAT).read_bytes()[:200])
    with pytest.raises(MediaError, match=r"cat\.jpg"):
        asker.ask([str(tmp_path / "cat.jpg")], "What is this?")


def test_the_names_texts_are_kept_and_made_anew_where_they_are_broken(
    looks: Perception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDSIGHT_CACHE", str(tmp_path))
    names, embedding = {"cat": ["animal"], "cup": []}, looks.embed_images([CAT])[0]
    first = Eye(looks, names).of_embedding(Asked("name"), embedding)
    (kept,) = tmp_path.glob("names-*.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(looks, "embed_texts", None)  # not needed again
        assert Eye(looks, names).of_embedding(Asked("name"), embedding) == first
    kept.write_bytes(b"cut")
    assert Eye(looks, names).of_embedding(Asked("name"), embedding) == first
    Eye(looks, {"cup": [], "cat": []}).of_embedding(Asked("name"), embedding)
    assert len(list(tmp_path.glob("names-*.safetensors"))) == 2  # other names are kept apart


def test_a_cache_that_cannot_be_written_costs_time_only(
    looks: Perception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIDSIGHT_CACHE", str(tmp_path / "file" / "cache"))
    assert Eye(looks, {"cup": [], "cat": []}).answer(Asked("name"), CAT).answer == "cat"


def test_the_list_of_names() -> None:
    names = visible_names()
    assert len(names) > 1500
    assert list(names) == sorted(names)
    assert {"cat", "dog", "bird", "vehicle", "tool", "espresso"} < set(names)
    assert not {"", "person", "thing", "object"} & set(names)
    assert names["cat"].index("feline") < names["cat"].index("animal")


def test_a_kind_takes_the_names_below_it(looks: Perception, cache: Path) -> None:
    eye = Eye(looks, {"cat": ["pet"], "dog": ["pet"], "cup": ["dish"]})
    embedding = looks.embed_images([CAT])[0]
    assert eye.of_embedding(Asked("yes_no", ("pets",)), embedding).answer == "Yes"
    found = eye.of_embedding(Asked("name", ("dish",)), embedding)
    assert [name.label for name in found.names] == ["cup"]
    assert found.names[0].score < 0.01


def test_no_language_model_is_opened_for_a_photograph(
    looks: Perception, cache: Path, blind: PLM, tmp_path: Path
) -> None:
    opened = []

    def open_blind() -> PLM:
        opened.append(blind)
        return blind

    with Reader() as reader:
        asker = DocumentAsker(open_blind, reader, looks=lambda: looks)
        assert asker.ask([CAT], "Is it a cat or a dog?").answer in ("cat", "dog")
        assert asker.ask([CLIP], "What is this?").answer
        assert opened == []
        picture_of([(40, 40, "Total: $43.00")]).save(tmp_path / "page.png")
        asker.ask([str(tmp_path / "page.png")], "How much is the total?")
        asker.ask([str(tmp_path / "page.png")], "When was it paid?")
        assert opened == [blind]
