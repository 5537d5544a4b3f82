"""PDFs: word boxes against the ink of the page as drawn, turned and cropped pages, and files that mean harm."""

import os
from pathlib import Path

import numpy as np
import pytest

from midsight.errors import ConfigError, MediaError
from midsight.library.documents.pdf import Pdf, PdfLimits, is_pdf, spread
from tests.library.documents.makers import INVOICE, PROTECTED, Sheet, write_pdf


def ink(pixels: np.ndarray, box: tuple[float, float, float, float]) -> int:
    x0, y0, x1, y1 = (round(value) for value in box)
    return int((pixels[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] < 128).any(axis=2).sum())


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", ["", "/CropBox[30 20 560 800]"])
def test_word_boxes_hold_the_ink_that_is_drawn(tmp_path: Path, rotate: int, crop: str) -> None:
    path = write_pdf(tmp_path / "a.pdf", [Sheet(INVOICE, rotate=rotate, extra=crop)])
    with Pdf(path) as pdf:
        words, pixels = pdf.words(1), pdf.pixels(1)
        assert pixels.shape[1::-1] == pdf.size(1)
    assert sorted(word.text for word in words) == sorted(" ".join(text for *_, text in INVOICE).split())
    assert all(ink(pixels, word.box) > 10 for word in words)
    assert sum(ink(pixels, word.box) for word in words) > 0.97 * (pixels < 128).any(axis=2).sum()


def test_words_are_parted_by_wide_gaps_even_without_a_space(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [Sheet([(50, 50, 12, "left"), (90, 50, 12, "right"), (50, 65, 12, "next")])])
    with Pdf(path) as pdf:
        assert [word.text for word in pdf.words(1)] == ["left", "right", "next"]
        assert pdf.text(1).split() == ["left", "right", "next"]


def test_what_was_filled_into_a_form_is_read(tmp_path: Path) -> None:
    field = "<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(Ada Lovelace)/Rect[100 700 300 720]/F 4/DA(/F 10 Tf 0 g)>>"
    catalog = "/AcroForm<</Fields[4 0 R]/DA(/F 10 Tf 0 g)/DR<</Font<</F 3 0 R>>>>>>"
    sheet = Sheet([(50, 135, 10, "Name")], extra="/Annots[4 0 R]")
    with Pdf(write_pdf(tmp_path / "form.pdf", [sheet], more=[field], catalog=catalog)) as pdf:
        words = {word.text: word.box for word in pdf.words(1)}
        assert set(words) == {"Name", "Ada", "Lovelace"}
        assert words["Ada"][0] == pytest.approx(200, abs=2)  # 100 points at two pixels
        assert words["Ada"][1] == pytest.approx((842 - 720) * 2, abs=2)


def test_pages_are_drawn_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    with Pdf(write_pdf(tmp_path / "a.pdf", [Sheet(INVOICE)])) as pdf:
        assert pdf.size(1) == (1190, 1684)
        assert pdf.pixels(1, (300, 425)).shape == (425, 300, 3)


def test_a_large_page_is_drawn_coarser_and_a_monstrous_one_refused(tmp_path: Path) -> None:
    sheets = [Sheet(size=(14_000, 14_000)), Sheet(size=(100_000, 100_000)), Sheet(size=(1, 1))]
    with Pdf(write_pdf(tmp_path / "a.pdf", sheets)) as pdf:
        width, height = pdf.size(1)
        assert width * height <= 16_100_000
        with pytest.raises(MediaError, match=r"a\.pdf: page 2 measures 100000 x 100000 points, expected up to 14400"):
            pdf.pixels(2)
        assert pdf.pixels(3).shape[:2] == (2, 2)
        with pytest.raises(MediaError, match="has 3 pages, page 4 was asked for"):
            pdf.size(4)


def test_protected_and_broken_files_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"locked\.pdf: protected by a password"):
        Pdf(write_pdf(tmp_path / "locked.pdf", [Sheet(INVOICE)], trailer=PROTECTED))
    whole = write_pdf(tmp_path / "whole.pdf", [Sheet(INVOICE)]).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[:60])
    (tmp_path / "words.pdf").write_bytes(b"no PDF at all")
    (tmp_path / "empty.pdf").write_bytes(b"")
    for name in ("cut.pdf", "words.pdf", "empty.pdf", "missing.pdf"):
        with pytest.raises(MediaError, match=name):
            Pdf(tmp_path / name)
    with pytest.raises(MediaError, match=r"none\.pdf"):
        Pdf(write_pdf(tmp_path / "none.pdf", []))


def test_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    (tmp_path / "folder.pdf").mkdir()
    for name in ("pipe.pdf", "folder.pdf"):
        with pytest.raises(MediaError, match="not a regular file"):
            Pdf(tmp_path / name)
        assert not is_pdf(tmp_path / name)


def test_limits_on_bytes(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [Sheet(INVOICE)])
    with pytest.raises(MediaError, match="the limit is 100"):
        Pdf(path, PdfLimits(max_bytes=100))
    with pytest.raises(ConfigError, match="above 0"):
        PdfLimits(dpi=0)


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "named_like_a.png", [Sheet(INVOICE)])
    assert is_pdf(path)
    (tmp_path / "picture.pdf").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not is_pdf(tmp_path / "picture.pdf")
    assert is_pdf(tmp_path / "missing.pdf")


def test_words_share_a_box_by_their_letters() -> None:
    assert [(word.text, word.box) for word in spread("ab cdef", (0, 5, 70, 15))] == [
        ("ab", (0, 5, 20, 15)),
        ("cdef", (30, 5, 70, 15)),
    ]
