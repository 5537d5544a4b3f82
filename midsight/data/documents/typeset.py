"""A document by Typst as PDF, and its words, places and pixels read from that PDF by pdfium: all exact.

A layout marks each field by a link (`f:NAME`), so a field's place is where its own letters stand within its links.
"""

import ctypes
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from midsight.data.documents.fonts import Family
from midsight.data.documents.record import Box
from midsight.data.documents.sheet import Sheet, UnfitError, Word, check_contrast, check_words, union
from midsight.errors import MissingDependencyError

try:
    import pypdfium2
    import pypdfium2.raw as pdfium
    import typst
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"documents need {error.name}: pip install 'midsight[documents-data]'") from error

_LAYOUTS = Path(__file__).parent / "layouts"
_HYPHEN = 2  # what pdfium gives for a hyphen at the end of a line


class Typesetter:
    """Compiles layouts with the files of these families and no other font."""

    def __init__(self, families: Sequence[Family]) -> None:
        folders = sorted({str(path.parent) for f in families for path in (f.regular, f.bold)})
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
        self._compiler = typst.Compiler(root=str(_LAYOUTS), font_paths=fonts, ignore_system_fonts=True)

    def compile(self, kind: str, document: Mapping[str, Any]) -> bytes:
        """The PDF of one document; a page whose content is longer than its height becomes as long as the content."""
        pdf = self._compile(kind, document)
        if document["style"]["height"] is not None and len(pypdfium2.PdfDocument(pdf)) > 1:
            pdf = self._compile(kind, {**document, "style": {**document["style"], "height": None}})
        return pdf

    def _compile(self, kind: str, document: Mapping[str, Any]) -> bytes:
        text = json.dumps(document, ensure_ascii=False)
        pdf = self._compiler.compile(
            str(_LAYOUTS / f"{kind}.typ"), format="pdf", sys_inputs={"document": text}, pdf_tags=False
        )
        assert isinstance(pdf, bytes)
        return pdf


def read_pdf(pdf: bytes, fields: Mapping[str, str], scale: float | None = None) -> Sheet:
    """Pixels, words and places of a PDF of one page.

    Args:
        fields: text by name; where a field is on the page, it must read exactly so.
        scale: pixels a point.

    Raises:
        UnfitError: a field reads otherwise than its text (a letter that the font lacks, a field shown twice), or a
            word leaves the page or lies over another.
    """
    document = pypdfium2.PdfDocument(pdf)
    try:
        page = document[0]
        width, height = page.get_size()
        links = list(_links(document, page))
        letters = list(_letters(page, height))
        owners = [_owner(letter, links, height) for letter in letters]
        words = tuple(_words(letters, owners))
        check_words(words, width, height)
        places = _places(letters, owners, links, fields, height)
        pixels = page.render(scale=scale, rev_byteorder=True).to_numpy()[..., :3]
    finally:
        document.close()
    across, down = pixels.shape[1] / width, pixels.shape[0] / height
    words = tuple(Word(word.text, _scaled(word.box, across, down)) for word in words)
    check_contrast(pixels, words)
    return Sheet(
        np.ascontiguousarray(pixels), words,
        {name: tuple(_scaled(box, across, down) for box in boxes) for name, boxes in places.items()},
    )  # fmt: skip


def page_size(pdf: bytes) -> tuple[float, float]:
    """Width and height in points."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        width, height = document[0].get_size()
    finally:
        document.close()
    return float(width), float(height)


@dataclass(frozen=True)
class _Letter:
    text: str
    box: Box | None  # tight, points from the top left corner; None for spaces and line ends
    line: float  # of the letter's loose box: vertical middle


@dataclass(frozen=True)
class _Link:
    name: str
    box: Box


def _links(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> Iterator[_Link]:
    height = page.get_height()
    position, link = ctypes.c_int(0), pdfium.FPDF_LINK()
    while pdfium.FPDFLink_Enumerate(page, ctypes.byref(position), ctypes.byref(link)):
        rect = pdfium.FS_RECTF()
        pdfium.FPDFLink_GetAnnotRect(link, rect)
        action = pdfium.FPDFLink_GetAction(link)
        length = pdfium.FPDFAction_GetURIPath(document, action, None, 0)
        buffer = ctypes.create_string_buffer(length)
        pdfium.FPDFAction_GetURIPath(document, action, buffer, length)
        name = buffer.value.decode()
        if name.startswith("f:"):
            yield _Link(name[2:], (rect.left, height - rect.top, rect.right, height - rect.bottom))


def _letters(page: pypdfium2.PdfPage, height: float) -> Iterator[_Letter]:
    text = page.get_textpage()
    for n in range(text.count_chars()):
        code = pdfium.FPDFText_GetUnicode(text, n)
        left, bottom, right, top = text.get_charbox(n)
        _, low, _, high = text.get_charbox(n, loose=True)
        letter = "-" if code == _HYPHEN else chr(code)
        solid = not letter.isspace() and ord(letter) > 31 and right > left and top > bottom
        box = (left, height - top, right, height - bottom) if solid else None
        yield _Letter(letter, box, height - (low + high) / 2)


def _owner(letter: _Letter, links: Sequence[_Link], height: float) -> int | None:
    """Which link the letter stands in."""
    if letter.box is None:
        return None
    x, y = (letter.box[0] + letter.box[2]) / 2, letter.line
    for n, link in enumerate(links):
        x0, y0, x1, y1 = link.box
        if x0 <= x <= x1 and y0 <= y <= y1:
            return n
    return None


def _words(letters: Sequence[_Letter], owners: Sequence[int | None]) -> Iterator[Word]:
    """Runs of letters without a space, on one line and within one field."""
    run: list[_Letter] = []
    last: int | None = None
    for letter, owner in zip(letters, owners, strict=True):
        if run and (letter.box is None or owner != last or _apart(run[-1], letter)):
            yield _word(run)
            run = []
        if letter.box is not None:
            run.append(letter)
            last = owner
    if run:
        yield _word(run)


def _apart(a: _Letter, b: _Letter) -> bool:
    assert a.box is not None
    assert b.box is not None
    tall = max(a.box[3] - a.box[1], b.box[3] - b.box[1], 1.0)
    return abs(a.line - b.line) > 0.5 * tall or b.box[0] - a.box[2] > 1.2 * tall or b.box[2] < a.box[0]


def _word(run: Sequence[_Letter]) -> Word:
    return Word("".join(letter.text for letter in run), union([letter.box for letter in run if letter.box is not None]))


def _places(
    letters: Sequence[_Letter], owners: Sequence[int | None], links: Sequence[_Link], fields: Mapping[str, str],
    height: float,
) -> dict[str, tuple[Box, ...]]:  # fmt: skip
    """Boxes of each field's letters, a line each; of a link without text (an icon) the link's own box."""
    members: dict[int, list[_Letter]] = {}
    for letter, owner in zip(letters, owners, strict=True):
        if owner is not None:
            members.setdefault(owner, []).append(letter)
    read: dict[str, str] = {}
    places: dict[str, list[Box]] = {}
    for n, link in enumerate(links):
        own = members.get(n, [])
        if link.name in fields and not own:
            continue  # the empty end of a line
        places.setdefault(link.name, []).append(union([m.box for m in own if m.box]) if own else link.box)
        read[link.name] = read.get(link.name, "") + "".join(m.text for m in own)
    for name, text in read.items():
        if name in fields and text != "".join(fields[name].split()):
            raise UnfitError(f"{name} reads {text!r} on the page, and is {fields[name]!r}")
    return {name: tuple(boxes) for name, boxes in places.items()}


def _scaled(box: Box, across: float, down: float) -> Box:
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down
