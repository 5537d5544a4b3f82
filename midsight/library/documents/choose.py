"""The few of many pages that a question is about: by words, and by looks where a page has no words."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from midsight.errors import MediaError
from midsight.library.documents.pages import PageId, Reader
from midsight.library.documents.retrieval import PageIndex, best, fuse

if TYPE_CHECKING:
    from midsight.api import Perception

READ_AT_MOST = 12  # pages without text that are all read by OCR; of more, those that look right
_SIDE = 672  # pixels of the longer side of a page that is looked at
_REMEMBERED = 8  # indexes of documents that are kept


class PageChooser:
    """Chooses pages, and remembers what it found out about them.

    Args:
        reader: gives pages and their words.
        looks: opens a model of pictures and texts, for pages without text; None leaves such pages in their order.
    """

    def __init__(self, reader: Reader, looks: "Callable[[], Perception] | None" = None) -> None:
        self.reader, self._looks = reader, looks
        self._indexes: dict[tuple[PageId, ...], tuple[PageIndex, list[str]]] = {}
        self._seen: dict[PageId, npt.NDArray[np.float32]] = {}
        self.broken: dict[PageId, str] = {}  # pages that could not be read, and why

    @cached_property
    def model(self) -> "Perception | None":
        """The model of pictures and texts, opened on first use; None where there is none."""
        return None if self._looks is None else self._looks()

    def choose(self, pages: Sequence[PageId], question: str, most: int) -> list[PageId]:
        """At most `most` of the pages, the likeliest first.

        Raises:
            MediaError: none of the pages can be read.
        """
        if len(pages) == 1:
            return list(pages)
        index, texts = self._index(tuple(pages))
        by_words = index.scores(question)
        empty = [n for n, text in enumerate(texts) if not text.strip() and pages[n] not in self.broken]
        if len(self.broken) and all(page in self.broken for page in pages):
            raise MediaError(next(iter(self.broken.values())))
        by_looks = np.zeros(len(pages), np.float32)
        if empty and self._looks is not None and len(pages) > most:
            by_looks[empty] = self._similar([pages[n] for n in empty], question)
        fused = fuse(by_words, by_looks)
        fused[[n for n, page in enumerate(pages) if page in self.broken]] = -1
        return [pages[n] for n in best(fused, most) if fused[n] >= 0]

    def _index(self, pages: tuple[PageId, ...]) -> tuple[PageIndex, list[str]]:
        if pages not in self._indexes:
            texts = [self._plain(page) for page in pages]
            empty = [n for n, text in enumerate(texts) if not text.strip()]
            if self.reader.ocr != "never" and len(empty) <= READ_AT_MOST:
                for n in empty:
                    texts[n] = self._read(pages[n])
            if len(self._indexes) >= _REMEMBERED:
                self._indexes.pop(next(iter(self._indexes)))
            self._indexes[pages] = PageIndex(texts), texts
        return self._indexes[pages]

    def _plain(self, page: PageId) -> str:
        try:
            return self.reader.plain(page)
        except MediaError as error:
            self.broken[page] = str(error)
            return ""

    def _read(self, page: PageId) -> str:
        try:
            return "" if page in self.broken else self.reader.read(page).text
        except MediaError as error:
            self.broken[page] = str(error)
            return ""

    def _similar(self, pages: Sequence[PageId], question: str) -> npt.NDArray[np.float32]:
        """How alike pages and question are to a model of both, above 0; 0 for pages that cannot be drawn."""
        model = self.model
        assert model is not None
        for page in pages:
            if page not in self._seen and page not in self.broken:
                try:
                    width, height = self.reader.size(page)
                    scale = min(1.0, _SIDE / max(width, height))
                    small = max(1, round(width * scale)), max(1, round(height * scale))
                    self._seen[page] = model.embed_images([self.reader.pixels(page, small)])[0]
                except MediaError as error:
                    self.broken[page] = str(error)
        asked = model.embed_texts([question])[0]
        return np.array([1 + self._seen[page] @ asked if page in self._seen else 0.0 for page in pages], np.float32)
