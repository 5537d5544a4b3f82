"""Questions about documents, answered: pages chosen and read, the model asked, the evidence found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from midsight.errors import ConfigError, InputError, MediaError
from midsight.library.documents import prompts
from midsight.library.documents.asked import FORMS, understand
from midsight.library.documents.choose import PageChooser
from midsight.library.documents.evidence import Evidence, find_words, grounded
from midsight.library.documents.extract import Extract, Extractor, compared_on
from midsight.library.documents.pages import Page, PageId, Reader
from midsight.library.documents.passages import page_text
from midsight.library.documents.pdf import is_pdf
from midsight.library.documents.seen import SHOWN_FRAMES, Eye, Seen
from midsight.library.scan import is_video
from midsight.plm.answer import AnswerConfig, Answerer
from midsight.plm.answer import Page as ReadMedia
from midsight.plm.media import MediaLimits
from midsight.plm.model import PLM
from midsight.tasks.zero_shot import Prediction
from midsight.video import sample_seconds

if TYPE_CHECKING:
    from midsight.api import Perception

Style = Literal["auto", "span", "free", "checked"]
Why = Literal["stop", "length", "interrupted"]
Show = Callable[[str], None]
_LEAST_LETTERS = 4  # that are text, and not what OCR takes for it in a photograph
_FEW_WORDS = 12  # a picture with fewer is asked about as a picture, where the question is one about pictures
_CANNOT = (
    f"of what is in a picture it can be asked {FORMS} (in English), and nothing else. Give a model that sees (--plm)"
)
_ROOM = 160  # tokens of a prompt beside text, question and pictures
TRAINED = "trained"  # of a model's metadata: what it learnt, where midsight taught it
_SMALL_READS = 400  # tokens of text that a small model is given: it loses its way in more
_SMALL = 1024  # width of a language model; a narrower one cannot compare numbers


@dataclass(frozen=True)
class AskConfig:
    """How questions are answered."""

    # "span" copies words of the page; "free" lets the model write; "checked" does, too, but holds its answer against
    # words of the page, and takes the highest, lowest, first and last from the page's numbers; "auto" is span for a
    # language model as it came, checked for a small one that learnt to read pages, free for others
    style: Style = "auto"
    max_pages: int = 4  # that the model reads, of those that there are
    max_text_tokens: int = 1200  # of the pages' text; more makes small models slower and no better
    max_new_tokens: int = 128  # of a free answer
    media: MediaLimits = MediaLimits()

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ConfigError(f"style must be {', '.join(get_args(Style))}, got {self.style!r}")
        if min(self.max_pages, self.max_text_tokens, self.max_new_tokens) < 1:
            raise ConfigError("max_pages, max_text_tokens and max_new_tokens must be at least 1")


@dataclass(frozen=True)
class Reply:
    """An answer with what it rests on."""

    answer: str
    pages: tuple[Page, ...]  # that the model read, the one with the answer first; none for videos
    boxes: tuple[Evidence, ...]  # of the answer, pixels of the page as drawn; empty where it was not found
    seconds: float
    why: Why = "stop"
    failures: tuple[str, ...] = ()  # files and pages that could not be read
    names: tuple[Prediction, ...] = ()  # what an encoder saw, where it answered, not the language model


class DocumentAsker:
    """A model that answers questions about documents.

    Args:
        model: a PLM with its tokenizer; one without a tower reads text only. Or what opens such a one, called when the
            first page is read: what pictures show is said without it.
        reader: opens documents; it is not closed here.
        config: how.
        looks: opens a model of pictures and texts, to find pages without text among many, and to say what pictures
            show where the model itself sees nothing.
    """

    def __init__(
        self,
        model: PLM | Callable[[], PLM],
        reader: Reader,
        config: AskConfig = AskConfig(),  # noqa: B008 (frozen)
        looks: "Callable[[], Perception] | None" = None,
    ) -> None:
        self._model, self.reader, self.config = model, reader, config
        self.sees = isinstance(model, PLM) and model.config.vision is not None
        self.chooser = PageChooser(reader, looks)
        self._eye: Eye | None = None

    @cached_property
    def model(self) -> PLM:
        """What reads pages; opened on first use."""
        return self._model if isinstance(self._model, PLM) else self._model()

    @cached_property
    def answerer(self) -> Answerer:
        """The model with its tokenizer and how it writes."""
        return Answerer(self.model, AnswerConfig(max_new_tokens=self.config.max_new_tokens, media=self.config.media))

    @cached_property
    def style(self) -> Style:
        """How pages are answered about, never "auto"."""
        return self.config.style if self.config.style != "auto" else _fitting_style(self.model)

    @cached_property
    def _nothing_seen(self) -> ReadMedia:
        """What a model that reads text only is asked about: prompts that begin alike share what they begin with."""
        return self.answerer.read([])

    @cached_property
    def _extractor(self) -> Extractor:
        return Extractor(self.model)

    def ask(
        self,
        paths: Sequence[str],
        question: str,
        chosen: Sequence[int] | None = None,
        show: Show | None = None,
    ) -> Reply:
        """One answer. Ctrl-C while the model writes ends it; what there is comes back, with `why` "interrupted".

        Args:
            paths: PDFs and pictures; or videos alone.
            question: what is asked.
            chosen: page numbers from 1 to look at, of each document; None looks at all.
            show: is given a free answer piece by piece.

        Raises:
            InputError: no question, no documents, or more than the model can read.
            MediaError: none of the documents can be read.
        """
        start = time.perf_counter()
        if not question.strip():
            raise InputError("the question is empty; say what is to be answered")
        if not paths:
            raise InputError("no documents were given; name PDFs, pictures or folders")
        if self.sees or understand(question) is None:  # the others are short, and may need no language model
            self._check_length(question)
        videos = any(is_video(path) for path in paths)
        reply = self._watch(paths, question, show) if videos else self._read(paths, question, chosen, show)
        return replace(reply, seconds=time.perf_counter() - start)

    def _read(self, paths: Sequence[str], question: str, chosen: Sequence[int] | None, show: Show | None) -> Reply:
        ids, failures = self._page_ids(paths, chosen)
        found = self.chooser.choose(ids, question, self.config.max_pages)
        failures += [why for page, why in self.chooser.broken.items() if page in ids]
        pages = []
        for page in found:
            try:
                pages.append(self.reader.read(page))
            except MediaError as error:
                failures.append(str(error))
        if not pages:
            raise MediaError("\n".join(dict.fromkeys(failures)))
        reply = self._answer(pages, question, show)
        return replace(reply, failures=tuple(dict.fromkeys(failures)))

    def _page_ids(self, paths: Sequence[str], chosen: Sequence[int] | None) -> tuple[list[PageId], list[str]]:
        """The pages of all documents, and why some have none; a single document must have them."""
        ids: list[PageId] = []
        failures: list[str] = []
        for path in paths:
            try:
                ids += self.reader.pages(path, chosen)
            except MediaError as error:
                failures.append(str(error))
        if not ids:
            raise MediaError("\n".join(failures))
        return ids, failures

    def _answer(self, pages: list[Page], question: str, show: Show | None) -> Reply:
        asked = None if self.sees else understand(question)
        if asked is not None and _is_picture(pages) and (eye := self._opened_eye()) is not None:
            return _said(eye.answer(asked, self.reader.pixels(pages[0].id)), pages, show)
        self._check_readable(pages, question)
        if self.style == "span":
            return self._copy(pages, question)
        if self.style == "checked":
            return self._check(pages, question, show)
        return self._write(pages, question, show)

    def _check_readable(self, pages: Sequence[Page], question: str) -> None:
        if self.sees or _has_text(pages):
            return
        if len(pages) > 1 and understand(question) is not None:
            raise InputError(f"{pages[0].id}: one of {len(pages)} pictures without text; ask about one at a time")
        if self.reader.ocr == "never":
            raise InputError(
                f"{pages[0].id}: has no text of its own, and the model reads text only. "
                f"Let the picture be read (--ocr auto); {_CANNOT}"
            )
        raise MediaError(f"{pages[0].id}: no text was found, and the model reads text only; {_CANNOT}")

    def _copy(self, pages: list[Page], question: str) -> Reply:
        """The words of a page that answer best."""
        text = page_text(_in_order(pages), question, self._budget(question, 0), self._count)
        return _copied(self._extractor.extract(pages, question, text), pages)

    def _check(self, pages: list[Page], question: str, show: Show | None) -> Reply:
        """What a comparison of numbers gives; else the model's own words, or those of the page that answer better."""
        if (found := compared_on(pages, question)) is not None:
            reply = _copied(found, pages)
        else:
            reply = self._write(pages, question, None)
            better = self._better(pages, question, reply)
            reply = reply if better is None else _copied(better, pages)
        if show is not None:
            show(reply.answer)
        return reply

    def _better(self, pages: list[Page], question: str, reply: Reply) -> Extract | None:
        """Words of the page that answer better than the model did, which saw no picture; None where it did best."""
        if self.sees or reply.why != "stop":
            return None
        ids = self.answerer.prompt_ids(self._prompt(pages, question, self._nothing_seen), self._nothing_seen)
        try:
            return self._extractor.weigh(pages, question, ids, reply.answer, self._nothing_seen)
        except KeyboardInterrupt:
            return None  # the answer is there

    def _prompt(self, pages: Sequence[Page], question: str, media: ReadMedia) -> str:
        text = page_text(_in_order(pages), question, self._budget(question, len(media.ids)), self._count)
        return prompts.free_prompt(text, question, self.sees)

    def _write(self, pages: list[Page], question: str, show: Show | None) -> Reply:
        """The model's own words."""
        shown = self._shown(pages)
        media = self.answerer.read([self._picture(page) for page in shown]) if shown else self._nothing_seen
        answer, why = self._stream(self._prompt(pages, question, media), media, show)
        boxes = [box for page in shown[:1] for box in grounded(answer, page)]
        boxes = boxes or find_words(answer, pages, question)
        best = next((page for page in pages if boxes and page.id == boxes[0].page), pages[0])
        return Reply(answer, _first(best, pages), tuple(boxes), 0.0, why)

    def _watch(self, paths: Sequence[str], question: str, show: Show | None) -> Reply:
        if not self.sees:
            return self._watch_names(paths, question, show)
        media = self.answerer.read(list(paths))
        answer, why = self._stream(prompts.free_prompt("", question, sees=True), media, show)
        return Reply(answer, (), (), 0.0, why)

    def _watch_names(self, paths: Sequence[str], question: str, show: Show | None) -> Reply:
        """What one video shows, by its frames and without a language model."""
        asked = understand(question)
        if len(paths) > 1 or asked is None or (eye := self._opened_eye()) is None:
            raise InputError(f"{paths[0]}: a video, but the model reads text only; {_CANNOT}")
        media = self.config.media
        clip = sample_seconds(
            paths[0], media.max_frames or SHOWN_FRAMES, start=media.start, end=media.end, limits=media.videos
        )
        return _said(eye.answer_frames(asked, clip.frames), (), show)

    def _opened_eye(self) -> Eye | None:
        """The encoder that names things, opened on first use; None where there is none."""
        if self._eye is None and self.chooser.model is not None and self.chooser.model.has_text:
            self._eye = Eye(self.chooser.model)
        return self._eye

    def _stream(self, prompt: str, media: ReadMedia, show: Show | None) -> tuple[str, Why]:
        pieces: list[str] = []
        try:
            for piece in self.answerer.stream(prompt, media):
                pieces.append(piece)
                if show is not None:
                    show(piece)
        except KeyboardInterrupt:
            return "".join(pieces).strip(), "interrupted"
        return "".join(pieces).strip(), "stop"

    def _shown(self, pages: Sequence[Page]) -> list[Page]:
        """Pages that a model sees: all pictures if they are few, else the likeliest page, which alone is tiled."""
        if not self.sees:
            return []
        separate = len({page.id.path for page in pages}) == len(pages)
        return list(pages) if separate else list(pages[:1])

    def _picture(self, page: Page) -> object:
        return self.reader.pixels(
            page.id,
            fitting(page.size, self.config.media.max_tiles or self.model.config.max_tiles, self.model.config.tile),
        )

    def _budget(self, question: str, used: int) -> int:
        room = self.model.config.context_length - self._count(question) - used - self.config.max_new_tokens - _ROOM
        most = self.config.max_text_tokens
        return max(0, min(most, _SMALL_READS if self.style == "checked" else most, room))

    def _count(self, text: str) -> int:
        return len(self.answerer.tokenizer.encode(text))

    def _check_length(self, question: str) -> None:
        room = self.model.config.context_length - self.config.max_new_tokens - _ROOM
        if (tokens := self._count(question)) > room:
            raise InputError(
                f"the question has {tokens} tokens, and the model can read {room} with it: ask a shorter one"
            )


def _fitting_style(model: PLM) -> Style:
    if model.config.vision is None and TRAINED not in model.config.metadata:
        return "span"
    return "checked" if int(model.config.text["hidden_size"]) < _SMALL else "free"


def _has_text(pages: Sequence[Page]) -> bool:
    return sum(c.isalnum() for page in pages for c in page.text) >= _LEAST_LETTERS


def _is_picture(pages: Sequence[Page]) -> bool:
    """Whether there is one page, and it is nothing to read: a page without text, or a picture with hardly any."""
    few = len(pages) == 1 and len(pages[0].text.split()) < _FEW_WORDS
    return few and (not is_pdf(pages[0].id.path) or not _has_text(pages))


def _said(seen: Seen, pages: Sequence[Page], show: Show | None) -> Reply:
    if show is not None:
        show(seen.answer)
    return Reply(seen.answer, tuple(pages), (), 0.0, names=seen.names)


def _copied(found: Extract, pages: Sequence[Page]) -> Reply:
    if found.page is None:
        return Reply(found.text, tuple(pages), (), 0.0)
    boxes = tuple(Evidence(found.page.id, box) for box in found.boxes)
    return Reply(found.text, _first(found.page, pages), boxes, 0.0)


def fitting(size: tuple[int, int], max_tiles: int, tile: int) -> tuple[int, int]:
    """Width and height at which a page fills the canvas of tiles in which it is largest, its aspect kept."""
    width, height = size
    grids = [(columns, max_tiles // columns) for columns in range(1, max_tiles + 1)]
    scale = max(min(columns * tile / width, rows * tile / height) for columns, rows in grids)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _first(page: Page, pages: Sequence[Page]) -> tuple[Page, ...]:
    return (page, *(other for other in pages if other.id != page.id))


def _in_order(pages: Sequence[Page]) -> list[Page]:
    """Pages as they follow each other, so that the text reads on."""
    order = list(dict.fromkeys(page.id.path for page in pages))
    return sorted(pages, key=lambda page: (order.index(page.id.path), page.id.number))
