"""PDF files through pdfium: pages as pixels, and the words that a file holds itself, with boxes.

A file comes from outside: its bytes, pages and the sides of a page are bounded before anything is drawn. pdfium is not
safe to use from several threads.
"""

import ctypes
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from midsight.errors import ConfigError, MediaError, MissingDependencyError
from midsight.images import Pixels
from midsight.library.documents.layout import Word
from midsight.plm.boxes import Box

INSTALL = "pip install 'midsight[documents]'"
MAGIC = b"%PDF-"
MAGIC_WITHIN = 1024  # bytes from the start, as readers allow
_FINE = 64  # parts of a pixel: pdfium gives places as whole numbers
_HYPHENS = "\u0002\ufffe"  # how pdfium spells a hyphen at the end of a line
_WORD_GAP = 0.3  # of the letters' size: a wider gap ends a word even without a space
_MAX_CHARS = 200_000  # of a page; a dense page of a newspaper has 20,000


@dataclass(frozen=True)
class PdfLimits:
    """What a PDF may cost."""

    max_bytes: int = 512 * 2**20
    max_pages: int = 2000  # that are read; 10 s for their text
    max_points: float = 14_400.0  # side of a page: the format's own bound, 200 inches
    max_pixels: int = 16_000_000  # of a page as drawn; larger ones are drawn coarser
    dpi: float = 144.0  # of a page as drawn: two pixels a point

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pages, self.max_pixels) < 1 or not min(self.max_points, self.dpi) > 0:
            raise ConfigError(f"limits must be above 0, got {self}")


class Pdf:
    """An open PDF.

    Raises:
        MediaError: missing, not a PDF, broken, protected by a password, or beyond the limits.
        MissingDependencyError: pypdfium2 is not installed.
    """

    def __init__(self, path: str | Path, limits: PdfLimits = PdfLimits()) -> None:  # noqa: B008 (frozen)
        self.path, self.limits = Path(path), limits
        _check_file(self.path, limits)
        self._document = _open(self.path)
        if not len(self):
            raise MediaError(f"{path}: a PDF without pages")

    def __len__(self) -> int:
        return len(self._document)

    def size(self, number: int) -> tuple[int, int]:
        """Width and height of a page as drawn, pixels.

        Args:
            number: from 1.

        Raises:
            MediaError: the page is broken or too large.
        """
        with self._page(number) as page:
            return self._size(page, number)

    def pixels(self, number: int, size: tuple[int, int] | None = None) -> Pixels:
        """The page, uint8 (H, W, 3), of about `size` (width, height), else as `size(number)`; errors as there."""
        with self._page(number) as page:
            width, height = size or self._size(page, number)
            points = page.get_size()
            scale = max(width / points[0], height / points[1]) * (1 + 1e-6)
            bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
            pixels = bitmap.to_numpy()[:height, :width, :3]
            if pixels.shape[2] == 1:  # pages without colour may be drawn grey
                pixels = np.repeat(pixels, 3, axis=2)
            return np.ascontiguousarray(pixels)

    def text(self, number: int) -> str:
        """The text of a page in the file's own order, quickly and without boxes; errors as `size`."""
        with self._page(number) as page, _closing(page.get_textpage()) as text:
            found: str = text.get_text_range(0, min(text.count_chars(), _MAX_CHARS))
            return "".join("-" if c in _HYPHENS else c for c in found)

    def words(self, number: int) -> list[Word]:
        """The words of a page's text layer and its filled fields; boxes in pixels of the page as drawn."""
        with self._page(number) as page:
            place = _Placer(page, self._size(page, number))
            with _closing(page.get_textpage()) as text:
                words = list(_words(_letters(text, place)))
            return [*words, *_field_words(self._document, page, place)]

    def has_picture(self, number: int) -> bool:
        """Whether a picture lies on the page, as on every scanned one."""
        import pypdfium2.raw as raw

        with self._page(number) as page:
            return any(True for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3))

    def close(self) -> None:
        """Lets go of the file."""
        self._document.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _page(self, number: int) -> "_closing":
        if not 1 <= number <= len(self):
            raise MediaError(f"{self.path}: has {len(self)} pages, page {number} was asked for")
        import pypdfium2

        try:
            return _closing(self._document[number - 1])
        except pypdfium2.PdfiumError as error:
            raise MediaError(f"{self.path}: page {number} is broken ({error})") from None

    def _size(self, page: Any, number: int) -> tuple[int, int]:
        width, height = page.get_size()
        if not (0 < width <= self.limits.max_points and 0 < height <= self.limits.max_points):
            raise MediaError(
                f"{self.path}: page {number} measures {width:g} x {height:g} points, expected up to "
                f"{self.limits.max_points:g} a side"
            )
        scale = min(self.limits.dpi / 72, (self.limits.max_pixels / (width * height)) ** 0.5)
        return max(1, round(width * scale)), max(1, round(height * scale))


class _closing:  # noqa: N801  as contextlib's, for pdfium's objects, which must be closed in order
    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __enter__(self) -> Any:
        return self.thing

    def __exit__(self, *_: object) -> None:
        self.thing.close()


def is_pdf(path: str | Path) -> bool:
    """Whether the file begins as a PDF does; a file that cannot be read is judged by its name."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        with open(path, "rb") as file:
            return MAGIC in file.read(MAGIC_WITHIN)
    except (OSError, ValueError):
        return Path(path).suffix.lower() == ".pdf"


def _check_file(path: Path, limits: PdfLimits) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: not a regular file, expected a PDF.")
    if status.st_size > limits.max_bytes:
        raise MediaError(f"{path}: {status.st_size} bytes, the limit is {limits.max_bytes}.")
    if not status.st_size:
        raise MediaError(f"{path}: empty, expected a PDF.")


def _open(path: Path) -> Any:
    try:
        import pypdfium2
        import pypdfium2.raw as raw
    except ImportError as error:
        raise MissingDependencyError(f"PDF files are opened by pypdfium2, which is not installed: {INSTALL}") from error
    try:
        document = pypdfium2.PdfDocument(path)
        document.init_forms()
        return document
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise MediaError(
                f"{path}: protected by a password. Save a copy without one (qpdf --decrypt) and use that."
            ) from None
        raise MediaError(f"{path}: not a PDF that can be read, or a broken one ({error}).") from None


class _Placer:
    """Places in a page's own space, which may be turned and cropped, to pixels of the page as drawn."""

    def __init__(self, page: Any, size: tuple[int, int]) -> None:
        self.page, self.size = page, size

    def __call__(self, left: float, bottom: float, right: float, top: float) -> Box:
        """The box, upright and inside the page."""
        (x0, y0), (x1, y1) = self._point(left, bottom), self._point(right, top)
        width, height = self.size
        xs, ys = (
            sorted(min(max(x, 0.0), width) for x in (x0, x1)),
            sorted(min(max(y, 0.0), height) for y in (y0, y1)),
        )
        return xs[0], ys[0], xs[1], ys[1]

    def _point(self, x: float, y: float) -> tuple[float, float]:
        import pypdfium2.raw as raw

        px, py = ctypes.c_int(), ctypes.c_int()
        width, height = (side * _FINE for side in self.size)
        raw.FPDF_PageToDevice(self.page, 0, 0, width, height, 0, x, y, ctypes.byref(px), ctypes.byref(py))
        return px.value / _FINE, py.value / _FINE


def _letters(text: Any, place: _Placer) -> Iterator[tuple[str, Box | None]]:
    """Characters in the file's order, those that can be seen with their boxes."""
    import pypdfium2.raw as raw

    box = raw.FS_RECTF()
    for index in range(min(text.count_chars(), _MAX_CHARS)):
        code = raw.FPDFText_GetUnicode(text, index)
        letter = "-" if chr(code) in _HYPHENS else chr(code)
        # the loose box: as high as the font and as wide as the letter's step, so that neighbours touch
        if letter.isspace() or not code or not raw.FPDFText_GetLooseCharBox(text, index, box):
            yield " ", None
            continue
        yield letter, place(box.left, box.bottom, box.right, box.top)


def _words(letters: Iterator[tuple[str, Box | None]]) -> Iterator[Word]:
    """Letters joined up to a space, a wide gap or another line."""
    text, boxes = "", list[Box]()
    for letter, box in letters:
        if boxes and (box is None or _is_apart(boxes, box)):
            yield _word(text, boxes)
            text, boxes = "", []
        if box is not None:
            text += letter
            boxes.append(box)
    if boxes:
        yield _word(text, boxes)


def _is_apart(boxes: list[Box], box: Box) -> bool:
    """Whether a letter belongs to another word than those before it; words may run along or across the page."""
    last = boxes[-1]
    gaps = [max(0.0, box[i] - last[i + 2], last[i] - box[i + 2]) for i in (0, 1)]
    sides = [min(last[i + 2] - last[i], box[i + 2] - box[i]) for i in (0, 1)]
    shared = [min(last[i + 2], box[i + 2]) - max(last[i], box[i]) for i in (0, 1)]
    size = max(max(b[2] - b[0], b[3] - b[1]) for b in (*boxes[-3:], box))
    in_line = any(part >= 0.4 * side for part, side in zip(shared, sides, strict=True))
    return max(gaps) > _WORD_GAP * size or not in_line


def _word(text: str, boxes: list[Box]) -> Word:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return Word(text, (min(x0), min(y0), max(x1), max(y1)))


def _field_words(document: Any, page: Any, place: _Placer) -> Iterator[Word]:
    """What was filled into the fields of a form: it is drawn, but no part of the text layer."""
    import pypdfium2.raw as raw

    if document.formenv is None:
        return
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        note = raw.FPDFPage_GetAnnot(page, index)
        try:
            value, rect = _field(document.formenv, note), raw.FS_RECTF()
            if value and raw.FPDFAnnot_GetRect(note, rect):
                yield from _spread(value, place(rect.left, rect.bottom, rect.right, rect.top))
        finally:
            raw.FPDFPage_CloseAnnot(note)


def _field(environment: Any, note: Any) -> str:
    """The text in a field; empty for other annotations and for boxes to tick."""
    import pypdfium2.raw as raw

    shown = (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX)
    if raw.FPDFAnnot_GetFormFieldType(environment, note) not in shown:
        return ""
    length = raw.FPDFAnnot_GetFormFieldValue(environment, note, None, 0)  # bytes of UTF-16 with the end
    if not 2 < length <= _MAX_CHARS:
        return ""
    buffer = ctypes.create_string_buffer(length)
    raw.FPDFAnnot_GetFormFieldValue(environment, note, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), length)
    return buffer.raw[:length].decode("utf-16-le", "replace").rstrip("\0")


def _spread(text: str, box: Box) -> Iterator[Word]:
    """A field's words over its box, each as wide as its letters."""
    return spread(" ".join(text.split()), box)


def spread(text: str, box: Box) -> Iterator[Word]:
    """Words of one line over its box, by the number of their letters; for engines that give lines."""
    x0, y0, x1, y1 = box
    step, at = (x1 - x0) / max(1, len(text)), 0
    for word in text.split(" "):
        if word:
            yield Word(word, (x0 + at * step, y0, x0 + (at + len(word)) * step, y1))
        at += len(word) + 1
