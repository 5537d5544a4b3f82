"""Which words a page gets under each mode, what is remembered, and which files are documents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midsight.errors import InputError, MediaError
from midsight.library.documents import ocr, pages
from midsight.library.documents.layout import Word
from midsight.library.documents.pages import PageId, Reader, find_documents
from midsight.library.documents.pdf import PdfLimits
from tests.library.documents.makers import INVOICE, Sheet, picture_of, write_pdf


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pictures that went to OCR; it finds one word."""
    found: list[Any] = []

    def recognise(pixels: Any) -> list[Word]:
        found.append(pixels)
        return [Word("seen", (1, 1, 20, 9))]

    monkeypatch.setattr(ocr, "recognise", recognise)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pdf(tmp_path / "own.pdf", [Sheet(INVOICE), Sheet([(50, 50, 12, "Second page")])])
    picture_of([(10, 10, "scan")], (300, 200)).save(tmp_path / "scan.pdf")
    picture_of([(10, 10, "photo")], (120, 80)).save(tmp_path / "photo.png")
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "name", "by", "times"),
    [
        ("auto", "own.pdf", "text layer", 0),
        ("auto", "scan.pdf", "ocr", 1),
        ("auto", "photo.png", "ocr", 1),
        ("always", "own.pdf", "ocr", 1),
        ("never", "own.pdf", "text layer", 0),
        ("never", "scan.pdf", "nothing", 0),
        ("never", "photo.png", "nothing", 0),
    ],
)
def test_where_words_come_from(folder: Path, seen: list[Any], mode: Any, name: str, by: str, times: int) -> None:
    with Reader(mode) as reader:
        page = reader.read(PageId(str(folder / name), 1))
        assert (page.by, len(seen)) == (by, times)
        assert reader.read(page.id) is page  # remembered
        assert reader.size(page.id) == page.size
        assert reader.pixels(page.id).shape[1::-1] == page.size


def test_a_text_layer_of_private_letters_is_not_believed(folder: Path, seen: list[Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(pages.Pdf, "words", lambda *_: [Word("\ue001\ue002" * 30, (0, 0, 9, 9))])
    with Reader() as reader:
        assert reader.read(PageId(str(folder / "own.pdf"), 1)).by == "ocr"


def test_pages_of_a_document(folder: Path) -> None:
    path = str(folder / "own.pdf")
    with Reader(pdf_limits=PdfLimits(max_pages=1)) as reader:
        assert reader.pages(path, [2]) == [PageId(path, 2)]
        assert reader.pages(str(folder / "photo.png")) == [PageId(str(folder / "photo.png"), 1)]
        with pytest.raises(MediaError, match=r"has 2 pages, the limit is 1\. Name the pages that matter: --pages 1-1"):
            reader.pages(path)
        with pytest.raises(MediaError, match="has 2 pages, page 3 was asked for"):
            reader.pages(path, [3])
        assert reader.plain(PageId(path, 2)).strip() == "Second page"
    with pytest.raises(InputError, match="auto, always or never"):
        Reader("perhaps")  # type: ignore[arg-type]


def test_ten_thousand_pages_are_refused_at_once(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "bomb.pdf", [Sheet()] * 10_000)
    with Reader() as reader, pytest.raises(MediaError, match="has 10000 pages, the limit is 2000"):
        reader.pages(str(path))


def test_only_some_files_stay_open(tmp_path: Path) -> None:
    paths = [str(write_pdf(tmp_path / f"{n}.pdf", [Sheet([(50, 50, 12, f"page {n}")])])) for n in range(8)]
    with Reader() as reader:
        for _ in range(2):
            assert [reader.plain(PageId(path, 1)).strip() for path in paths] == [f"page {n}" for n in range(8)]
        assert len(reader._open) == pages._OPEN


def test_a_scan_of_several_pages(tmp_path: Path) -> None:
    sheets = [Image.fromarray(np.full((40, 30 + n, 3), 80 * n, np.uint8)) for n in range(3)]
    path = str(tmp_path / "scan.TIF")
    sheets[0].save(path, "TIFF", save_all=True, append_images=sheets[1:])
    with Reader(ocr="never") as reader:
        found = reader.pages(path)
        assert [page.number for page in found] == [1, 2, 3]
        assert [reader.read(page).size for page in found] == [(30, 40), (31, 40), (32, 40)]
        assert [int(reader.pixels(page)[0, 0, 0]) for page in found] == [0, 80, 160]
        with pytest.raises(MediaError, match=r"scan\.TIF: has 3 pages, page 7 was asked for"):
            reader.pages(path, [2, 7])


def test_image_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with Reader() as reader, pytest.raises(MediaError, match=r"bomb\.png"):
        reader.read(PageId(str(tmp_path / "bomb.png"), 1))


def test_find_documents(folder: Path) -> None:
    (folder / "notes.txt").write_text("no document")
    (folder / ".hidden.pdf").write_bytes(b"")
    (folder / "inner").mkdir()
    (folder / "inner" / "b.JPG").write_bytes(b"")
    assert [Path(path).name for path in find_documents([folder])] == ["own.pdf", "photo.png", "scan.pdf", "b.JPG"]
    assert find_documents(["missing.pdf", "missing.pdf"]) == ["missing.pdf"]
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no PDFs or pictures in this folder"):
        find_documents([folder / "empty"])
