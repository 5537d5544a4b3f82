"""Every layout of every kind: what is asked can be read off the page, at the place that is given as evidence."""

from collections.abc import Iterator

import numpy as np
import pytest

from midsight.data.documents import KINDS, DocumentsConfig
from midsight.data.documents.ask import words_in
from midsight.data.documents.config import SPLITS, Kind, Split
from midsight.data.documents.layouts import LAYOUTS
from midsight.data.documents.make import Document, Maker, Place, Stock, places
from midsight.data.documents.sheet import union

CONFIG = DocumentsConfig(min_side=448, max_side=900, clean_share=1.0, max_questions=100)


@pytest.fixture(scope="module")
def maker(stock: Stock) -> Maker:
    return Maker(CONFIG, stock)


def _each_layout(maker: Maker, kind: Kind) -> Iterator[Document]:
    splits: tuple[Split, ...] = ("train", "validation", "test_unseen")
    for split in splits:
        for index in range(len(maker.parts.layouts[split][kind])):
            yield maker.make(Place(split, kind, index))


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_holds_the_answer(maker: Maker, kind: Kind) -> None:
    seen = set()
    for document in _each_layout(maker, kind):
        seen.add(document.layout)
        height, width = document.sheet.pixels.shape[:2]
        assert CONFIG.min_side - 2 <= max(height, width) <= CONFIG.max_side + 2
        for question in document.questions:
            assert question.text
            assert all(answer.strip() for answer in question.answers)
            for name, boxes in question.evidence:
                for x0, y0, x1, y1 in boxes:
                    assert -1 <= x0 < x1 <= width + 1, name
                    assert -1 <= y0 < y1 <= height + 1, name
                    inside = document.sheet.pixels[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].mean(2)
                    assert np.ptp(inside) > 10, f"{document.layout}: nothing at {name}"  # ink on a ground
            _check_text(document, question.kind, question.answers, dict(question.evidence))
    assert seen == set(LAYOUTS[kind])


def _check_text(document: Document, kind: str, answers: tuple[str, ...], evidence: dict[str, tuple]) -> None:  # type: ignore[type-arg]
    """The words in the first evidence's boxes spell the answer, where it is to be read as it stands."""
    if kind not in ("read", "transcribe", "next_line", "read_box", "date"):
        return
    fields = document.record.fields
    names = [name for name in evidence if name in fields and fields[name] in answers[0]] or list(evidence)[:1]
    found = [word for name in names for box in evidence[name] for word in words_in(document.sheet, box)]
    expected = " ".join(fields[name] for name in names)
    assert "".join(found) == expected.replace(" ", ""), document.layout
    assert answers[0].split()[0] in expected


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_answers_to_one_question(maker: Maker, kind: Kind) -> None:
    for index in range(12):
        document = maker.make(Place("train", kind, index))
        texts = [q.text for q in document.questions]
        assert len(texts) == len(set(texts))
        labels = [text for name, text in document.record.fields.items() if _names_a_thing(name)]
        assert len(labels) == len(set(labels))


def _names_a_thing(field: str) -> bool:
    """Fields by which questions name rows, items, categories and entries."""
    parts = field.split(".")
    return (parts[0] == "item" and parts[-1] == "name") or (parts[0] == "cell" and parts[-1] == "0") or (
        parts[0] in ("category", "series", "head", "choice") and len(parts) == 2
    )  # fmt: skip


def test_locate_gives_the_box_of_what_it_names(maker: Maker) -> None:
    document = maker.make(Place("train", "invoice", 0))
    height, width = document.sheet.pixels.shape[:2]
    located = [q for q in document.questions if q.kind == "locate"]
    assert located
    for question in located:
        found = [int(part) / 1000 for part in question.answers[0].strip("[]").split(",")]
        box = union(question.evidence[0][1])
        shares = np.array(box) / (width, height, width, height)
        assert np.abs(np.array(found) - shares).max() <= 0.001


def test_the_same_place_gives_the_same_document(maker: Maker, stock: Stock) -> None:
    other = Maker(CONFIG, stock)
    other.make(Place("train", "form", 5))  # what was made before does not matter
    for kind in KINDS:
        a, b = maker.make(Place("test_seen", kind, 1)), other.make(Place("test_seen", kind, 1))
        assert a.truth("x") == b.truth("x")
        np.testing.assert_array_equal(a.sheet.pixels, b.sheet.pixels)
        assert a.record.fields != maker.make(Place("train", kind, 1)).record.fields


def test_small_pages_hold_less_but_stay_readable(stock: Stock) -> None:
    config = DocumentsConfig(min_side=320, max_side=448, min_text=11.0)
    maker = Maker(config, stock)
    for kind in KINDS:
        document = maker.make(Place("train", kind, 3))
        assert max(document.sheet.pixels.shape[:2]) <= 450
        heights = [word.box[3] - word.box[1] for word in document.sheet.words if len(word.text) > 3]
        assert np.median(heights) > 5


def test_places_are_mixed_and_complete() -> None:
    config = DocumentsConfig({"card": 4, "chart": 8})
    order = list(places(config, "train"))
    assert len(order) == len(set(order)) == 12
    assert {place.kind for place in order[:3]} == {"card", "chart"}
    assert len({place.id for split in SPLITS for place in places(config, split)}) == 12 + 3 * 2


def test_rows_are_one_a_document_for_training_and_one_a_question_else(maker: Maker) -> None:
    train, test = maker.make(Place("train", "card", 0)), maker.make(Place("test_seen", "card", 0))
    (row,) = train.rows("images/a.png")
    assert [turn["from"] for turn in row["conversations"]] == ["human", "assistant"] * len(train.questions)
    assert row["image"] == "images/a.png"
    rows = test.rows("images/b.png")
    assert len(rows) == len(test.questions)
    truth = test.truth("images/b.png")["questions"]
    for row, known in zip(rows, truth, strict=True):
        assert row["id"] == known["id"]
        assert [turn["value"] for turn in row["conversations"]] == [known["question"], known["answers"][0]]
