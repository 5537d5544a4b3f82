"""What is read from a PDF agrees with pdfium's own text of the same place, and with the pixels."""

from contextlib import suppress
from typing import Any

import numpy as np
import pypdfium2
import pytest

from midsight.data.documents.config import Kind
from midsight.data.documents.kinds import DRAW
from midsight.data.documents.layouts import LAYOUTS
from midsight.data.documents.make import Stock
from midsight.data.documents.record import Record
from midsight.data.documents.sheet import Sheet, UnfitError, Word, check_contrast, check_words
from midsight.data.documents.style import choose_fonts, draw_style
from midsight.data.documents.typeset import Typesetter, page_size, read_pdf
from midsight.data.documents.vocabulary import Vocabulary


def _document(stock: Stock, kind: Kind, layout: str, seed: int = 0) -> tuple[Record, dict[str, Any]]:
    w = Vocabulary((7, seed), 0.6)
    record = DRAW[kind](w, layout)
    fonts = choose_fonts(w, stock.families)
    style = draw_style(w, LAYOUTS[kind][layout], fonts, stock.icons, record.data.get("icons", ()), 90)
    return record, {"layout": layout, "fields": dict(record.fields), "data": dict(record.data), "style": style}


def _read(stock: Stock, kind: Kind, layout: str, scale: float = 2.0) -> tuple[Record, bytes, Sheet]:
    """The first draw that fits its page."""
    for seed in range(10):
        record, document = _document(stock, kind, layout, seed)
        pdf = Typesetter(stock.families).compile(kind, document)
        with suppress(UnfitError):
            return record, pdf, read_pdf(pdf, record.fields, scale)
    raise AssertionError(layout)


@pytest.mark.parametrize(("kind", "layout"), [("invoice", "classic"), ("table", "ruled"), ("card", "label_plain")])
def test_places_agree_with_pdfiums_text_of_the_same_rectangle(stock: Stock, kind: Kind, layout: str) -> None:
    record, pdf, sheet = _read(stock, kind, layout)
    opened = pypdfium2.PdfDocument(pdf)
    page = opened[0]
    text = page.get_textpage()
    across, down = sheet.pixels.shape[1] / page.get_width(), sheet.pixels.shape[0] / page.get_height()
    assert set(sheet.places) <= set(record.fields)
    assert len(sheet.places) > 5
    for name, boxes in sheet.places.items():
        parts = [
            text.get_text_bounded(
                x0 / across, page.get_height() - y1 / down, x1 / across, page.get_height() - y0 / down
            )
            for x0, y0, x1, y1 in boxes
        ]
        assert "".join("".join(parts).replace("\ufffe", "-").split()) == "".join(record.fields[name].split()), name
    opened.close()


def test_boxes_are_tight_around_the_ink(stock: Stock) -> None:
    _, _, sheet = _read(stock, "card", "label_plain", 3.0)
    ink = np.abs(sheet.pixels.astype(int) - sheet.pixels[0, 0]).sum(2) > 60  # H, W
    for x0, y0, x1, y1 in (boxes[0] for boxes in sheet.places.values()):
        rows, columns = np.nonzero(ink[max(0, int(y0) - 3) : int(y1) + 4, max(0, int(x0) - 3) : int(x1) + 4])
        assert abs(rows.min() - 3) <= 2
        assert abs(columns.min() - 3) <= 2
        assert abs(rows.max() - (y1 - y0) - 3) <= 3
        assert abs(columns.max() - (x1 - x0) - 3) <= 3


def test_a_page_that_is_too_short_becomes_longer(stock: Stock) -> None:
    _, document = _document(stock, "invoice", "classic")
    document["style"]["height"] = 80
    pdf = Typesetter(stock.families).compile("invoice", document)
    assert page_size(pdf)[1] > 150


def test_a_field_that_reads_otherwise_is_refused(stock: Stock) -> None:
    record, document = _document(stock, "card", "label_plain")
    document["fields"]["line.0"] = "中文 text"  # letters that the font lacks
    pdf = Typesetter(stock.families).compile("card", document)
    with pytest.raises(UnfitError, match=r"line\.0"):
        read_pdf(pdf, document["fields"])
    with pytest.raises(UnfitError, match=r"line\.0"):
        read_pdf(pdf, record.fields)


def test_words_over_each_other_or_over_the_edge_are_refused() -> None:
    a, b = Word("a", (10, 10, 30, 20)), Word("b", (28, 12, 50, 22))
    check_words([a, Word("c", (31, 10, 40, 20))], 100, 100)
    check_words([a, b], 100, 100, most=0.2)
    with pytest.raises(UnfitError, match="lies over"):
        check_words([a, b], 100, 100, most=0.05)
    with pytest.raises(UnfitError, match="leaves the page"):
        check_words([a], 25, 100)
    with pytest.raises(UnfitError, match="no words"):
        check_words([], 25, 100)


def test_words_without_contrast_are_refused() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    pixels[12:18, 15:25] = 150
    with pytest.raises(UnfitError, match="'a'"):
        check_contrast(pixels, [Word("a", (10, 10, 30, 20))])
    pixels[12:18, 15:25] = 20
    check_contrast(pixels, [Word("a", (10, 10, 30, 20))])
