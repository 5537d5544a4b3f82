"""Pages of PDFs and pictures, and their words: each document opened once, each page read once."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from midsight.errors import InputError, MediaError
from midsight.images import DEFAULT_LIMITS, IMAGE_SUFFIXES, Limits, Pixels, count_pages, load_image
from midsight.library.documents import ocr
from midsight.library.documents.layout import Line, Word, read_lines
from midsight.library.documents.pdf import Pdf, PdfLimits, is_pdf
from midsight.library.scan import find_media

Ocr = Literal["auto", "always", "never"]
SUFFIXES = IMAGE_SUFFIXES | {".pdf"}
_FEW_WORDS = 12  # a page with a picture and fewer words than that in its text layer is taken for a scan
_UNREADABLE = 0.3  # share of letters without meaning, from which a text layer is not believed
_OPEN = 4  # documents kept open
_REMEMBERED = 512  # pages whose words are kept


@dataclass(frozen=True)
class PageId:
    """Which page of which file; a picture is page 1 of itself, but for a TIFF of several pages."""

    path: str
    number: int  # from 1

    def __str__(self) -> str:
        return f"{self.path}, page {self.number}"


@dataclass(frozen=True)
class Page:
    """What was read of a page."""

    id: PageId
    size: tuple[int, int]  # width and height as drawn, pixels; a picture's own
    lines: tuple[Line, ...]  # in reading order; empty where there is no text, or it was not to be read
    by: Literal["text layer", "ocr", "nothing"]

    @property
    def text(self) -> str:
        """Lines apart by line breaks, cells by bars."""
        return "\n".join(line.text for line in self.lines)


class Reader:
    """Opens documents and remembers what it read.

    Args:
        ocr: "auto" takes a PDF's own text and reads pictures of text by OCR; "always" reads every page by OCR; "never"
            takes a PDF's own text only.
        pdf_limits, image_limits: what a file may cost.
    """

    def __init__(
        self,
        ocr: Ocr = "auto",
        pdf_limits: PdfLimits = PdfLimits(),  # noqa: B008 (frozen)
        image_limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if ocr not in ("auto", "always", "never"):
            raise InputError(f"ocr must be auto, always or never, got {ocr!r}")
        self.ocr, self.pdf_limits, self.image_limits = ocr, pdf_limits, image_limits
        self._open: OrderedDict[str, Pdf] = OrderedDict()
        self._pages: OrderedDict[PageId, Page] = OrderedDict()
        self._counts: dict[str, int] = {}  # pages of TIFFs

    def count(self, path: str) -> int:
        """Pages of a document.

        Raises:
            MediaError: it cannot be opened.
        """
        if is_pdf(path):
            return len(self._pdf(path))
        if not path.lower().endswith((".tif", ".tiff")):
            return 1
        if path not in self._counts:
            self._counts[path] = count_pages(path, self.image_limits)
        return self._counts[path]

    def pages(self, path: str, chosen: Sequence[int] | None = None) -> list[PageId]:
        """The pages of a document, or those of them that were chosen.

        Raises:
            MediaError: it cannot be opened, has more pages than the limit, or not those chosen.
        """
        count = self.count(path)
        numbers = range(1, count + 1) if chosen is None else chosen
        if missing := [number for number in numbers if not 1 <= number <= count]:
            raise MediaError(f"{path}: has {count} pages, page {missing[0]} was asked for")
        if len(numbers) > self.pdf_limits.max_pages:
            raise MediaError(
                f"{path}: has {count} pages, the limit is {self.pdf_limits.max_pages}. "
                f"Name the pages that matter: --pages 1-{self.pdf_limits.max_pages}"
            )
        return [PageId(path, number) for number in numbers]

    def plain(self, page: PageId) -> str:
        """A page's own text without boxes, fast: for finding pages. Empty for pictures.

        Raises:
            MediaError: the page is broken.
        """
        if not is_pdf(page.path) or self.ocr == "always":
            return ""
        text = self._pdf(page.path).text(page.number)
        return "" if _is_unreadable(text) else text

    def read(self, page: PageId) -> Page:
        """Size and words of a page.

        Raises:
            MediaError: the page cannot be read.
            MissingDependencyError: OCR is needed and not installed.
        """
        known = self._pages.get(page)
        if known is None:
            known = self._read(page)
            self._pages[page] = known
            if len(self._pages) > _REMEMBERED:
                self._pages.popitem(last=False)
        return known

    def pixels(self, page: PageId, size: tuple[int, int] | None = None) -> Pixels:
        """A page as drawn, uint8 (H, W, 3); a PDF's at another `size` (width, height) if one is given."""
        if is_pdf(page.path):
            return self._pdf(page.path).pixels(page.number, size)
        return load_image(page.path, limits=self.image_limits, page=page.number)

    def size(self, page: PageId) -> tuple[int, int]:
        """Width and height of a page as drawn, pixels."""
        if is_pdf(page.path):
            return self._pdf(page.path).size(page.number)
        height, width = self.pixels(page).shape[:2]
        return width, height

    def close(self) -> None:
        """Lets go of all files."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _pdf(self, path: str) -> Pdf:
        if path not in self._open:
            self._open[path] = Pdf(path, self.pdf_limits)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def _read(self, page: PageId) -> Page:
        if is_pdf(page.path):
            pdf = self._pdf(page.path)
            size = pdf.size(page.number)
            own = [] if self.ocr == "always" else pdf.words(page.number)
            scanned = len(own) < _FEW_WORDS and pdf.has_picture(page.number)
            if _is_unreadable("".join(word.text for word in own)) or (self.ocr == "auto" and scanned):
                own = []
            if own or self.ocr == "never":
                return Page(page, size, tuple(read_lines(own)), "text layer" if own else "nothing")
        pixels = self.pixels(page)
        size = pixels.shape[1], pixels.shape[0]
        words: list[Word] = [] if self.ocr == "never" else ocr.recognise(pixels)
        return Page(page, size, tuple(read_lines(words)), "ocr" if words else "nothing")


def find_documents(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Files as they are given, folders as the PDFs and pictures below them, each once; as `find_media`."""
    return [str(path) for path in find_media(paths, SUFFIXES, "PDFs or pictures")]


def _is_unreadable(text: str) -> bool:
    """Whether most of a text layer is letters without meaning, as fonts without a table of characters give."""
    letters = [c for c in text if not c.isspace()]
    odd = sum(c == "\N{REPLACEMENT CHARACTER}" or "\ue000" <= c <= "\uf8ff" or not c.isprintable() for c in letters)
    return bool(letters) and odd > _UNREADABLE * len(letters)
