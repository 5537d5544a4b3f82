"""BM25 against its formula, fusion against its own, and pages chosen by words and by looks."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midsight.errors import MediaError
from midsight.library.documents import choose, ocr
from midsight.library.documents.choose import PageChooser
from midsight.library.documents.pages import PageId, Reader
from midsight.library.documents.retrieval import PageIndex, best, fuse, stem, terms
from tests.library.documents.makers import PROTECTED, Sheet, picture_of, write_pdf

TEXTS = [
    "The invoice was paid on the due date.",
    "Apples, pears and an apple pie.",
    "The date palm bears dates, dates and more dates.",
    "",
]


def test_scores_are_those_of_the_formula() -> None:
    documents = [terms(text) for text in TEXTS[:3]]
    average = sum(map(len, documents)) / 3

    def score(document: list[str], asked: list[str], k1: float = 1.5, b: float = 0.75) -> float:
        total = 0.0
        for term in asked:
            often = sum(term in other for other in documents)
            count = document.count(term)
            if count:
                weight = math.log(1 + (3 - often + 0.5) / (often + 0.5))
                total += weight * count / (count + k1 * (1 - b + b * len(document) / average))
        return total

    question = "Which date is the invoice due?"
    expected = [score(document, terms(question)) for document in documents]
    assert expected[0] > expected[2] > expected[1] == 0
    np.testing.assert_allclose(PageIndex(TEXTS).scores(question), [*expected, 0.0], rtol=1e-5)


def test_a_question_without_known_words_scores_nothing() -> None:
    assert not PageIndex(TEXTS).scores("zebra?").any()
    assert not PageIndex(["", ""]).scores("invoice").any()


def test_a_passage_about_something_outweighs_a_page_that_mentions_it() -> None:
    filler = " ".join(f"word{n}" for n in range(600))
    about = filler + " the harbour fee is forty and the harbour master collects the harbour fee " + filler
    mention = " ".join(f"other{n}" for n in range(60)) + " fee"
    assert best(PageIndex([mention, about]).scores("harbour fee"), 1) == [1]


@pytest.mark.parametrize(
    ("word", "other"),
    [("invoices", "invoice"), ("stories", "story"), ("printed", "printing"), ("classes", "class"), ("dates", "date")],
)
def test_forms_of_a_word_meet(word: str, other: str) -> None:
    assert stem(word) == stem(other)


def test_terms_are_plain() -> None:
    assert terms("The Café, 2nd") == terms("cafe 2ND")
    assert "1455" in terms("WM-1455")
    assert "wm-1455" in terms("WM-1455")
    assert terms("of the and") == []


def test_fusion_is_that_of_reciprocal_ranks() -> None:
    fused = fuse(np.array([3.0, 1.0, 0.0], np.float32), np.array([0.0, 0.2, 0.9], np.float32))
    np.testing.assert_allclose(fused, [1 / 61, 1 / 62 + 1 / 62, 1 / 61], rtol=1e-6)


class Looks:
    """A stand-in for a model of pictures and texts: it knows how dark a page is."""

    def embed_images(self, sources: Any) -> Any:
        return np.array([[float(source.mean() < 128), 0.5] for source in sources], np.float32)

    def embed_texts(self, texts: Any) -> Any:
        return np.array([[1.0, 0.0]], np.float32)


def test_pages_with_words_are_chosen_by_them(tmp_path: Path) -> None:
    sheets = [
        Sheet([(50, 50, 12, text)]) for text in ("About apples", "About pears", "The harbour fee is 40", "Nothing")
    ]
    path = str(write_pdf(tmp_path / "a.pdf", sheets))
    with Reader("never") as reader:
        chooser = PageChooser(reader)
        pages = reader.pages(path)
        assert [page.number for page in chooser.choose(pages, "What is the harbour fee?", 2)][0] == 3
        assert chooser.choose(pages[:1], "anything", 4) == pages[:1]
        assert [p.number for p in chooser.choose(pages, "zebra", 2)] == [1, 2]  # nothing fits: as they come


def test_pages_without_words_are_read_if_they_are_few_and_looked_at_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(ocr, "recognise", lambda pixels: read.append("") or [])
    monkeypatch.setattr(choose, "READ_AT_MOST", 3)
    paths = []
    for n in range(5):
        path = tmp_path / f"{n}.png"
        image = picture_of([], (40, 30))
        if n == 3:
            image = image.point(lambda value: value // 8)
        image.save(path)
        paths.append(PageId(str(path), 1))
    with Reader() as reader:
        chooser = PageChooser(reader, Looks)  # type: ignore[arg-type]
        assert chooser.choose(paths, "the dark one", 2)[0] == paths[3]
        assert not read
        chooser.choose(paths[:3], "the dark one", 2)
        assert len(read) == 3


def test_pages_that_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    good = PageId(str(write_pdf(tmp_path / "good.pdf", [Sheet([(50, 50, 12, "harbour")])])), 1)
    bad = PageId(str(write_pdf(tmp_path / "bad.pdf", [Sheet()], trailer=PROTECTED)), 1)
    with Reader("never") as reader:
        chooser = PageChooser(reader)
        assert chooser.choose([bad, good], "harbour", 4) == [good]
        assert "password" in chooser.broken[bad]
        with pytest.raises(MediaError, match="password"):
            chooser.choose([bad, bad], "harbour", 4)
