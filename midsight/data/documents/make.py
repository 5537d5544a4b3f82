"""One document from its number: drawn, typeset or plotted, checked, worn, asked about. Always the same for a seed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midsight.data.documents.ask import Asked, ask
from midsight.data.documents.config import KINDS, SPLITS, DocumentsConfig, Kind, Split
from midsight.data.documents.degrade import Degraded, degrade, encode
from midsight.data.documents.fonts import Family
from midsight.data.documents.kinds import DRAW
from midsight.data.documents.layouts import LAYOUTS
from midsight.data.documents.record import Box, Record
from midsight.data.documents.sheet import Sheet, UnfitError
from midsight.data.documents.split import Parts, make_parts
from midsight.data.documents.style import SMALLEST, Fonts, chart_families, choose_fonts, draw_style
from midsight.data.documents.typeset import Typesetter, page_size, read_pdf
from midsight.data.documents.vocabulary import Vocabulary

# how much a draw holds, by attempt: what does not fit its page is drawn again with less on it
_AMOUNTS = (1.0, 1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3, 0.3, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2)
_HELD_OUT_SENTENCES = 10  # every so many-th sentence is for the parts that measure


@dataclass(frozen=True)
class Stock:
    """What documents are made of, beside the vocabulary: families, icons (SVG by name) and sentences."""

    families: tuple[Family, ...]
    icons: Mapping[str, str]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """One document of a data set: its part, kind and number."""

    split: Split
    kind: Kind
    index: int

    @property
    def id(self) -> str:
        """A name that no other document of the data set has."""
        return f"{self.split}-{self.kind}-{self.index:06d}"


@dataclass(frozen=True)
class Document:
    """A finished document."""

    place: Place
    layout: str
    fonts: Fonts
    record: Record
    degraded: Degraded
    questions: tuple[Asked, ...]

    @property
    def sheet(self) -> Sheet:
        """The picture with its words and places."""
        return self.degraded.sheet

    def rows(self, image: str) -> list[dict[str, Any]]:
        """Training rows in PerceptionLM's layout: one with all turns for training, else one for each question."""
        turns = [
            [{"from": "human", "value": q.text}, {"from": "assistant", "value": q.answers[0]}] for q in self.questions
        ]
        if self.place.split == "train":
            return [{"id": self.place.id, "image": image, "conversations": [m for turn in turns for m in turn]}]
        return [{"id": f"{self.place.id}-{n}", "image": image, "conversations": t} for n, t in enumerate(turns)]

    def truth(self, image: str) -> dict[str, Any]:
        """Everything that is known of it; boxes are x0, y0, x1, y1 in pixels."""
        height, width = self.sheet.pixels.shape[:2]
        return {
            "id": self.place.id, "image": image, "kind": self.place.kind, "layout": self.layout, "width": width,
            "height": height, "fonts": sorted({self.fonts.body.name, self.fonts.head.name, self.fonts.hand.name}),
            "degraded": list(self.degraded.steps), "fields": dict(self.record.fields),
            "words": [[word.text, *_rounded(word.box)] for word in self.sheet.words],
            "places": {name: [_rounded(box) for box in boxes] for name, boxes in self.sheet.places.items()},
            "questions": [
                {
                    "id": f"{self.place.id}-{n}", "question": q.text, "answers": list(q.answers), "kind": q.kind,
                    "evidence": {name: [_rounded(box) for box in boxes] for name, boxes in q.evidence},
                }
                for n, q in enumerate(self.questions)
            ],
        }  # fmt: skip


class Maker:
    """Makes the documents of a configuration.

    Raises:
        ConfigError: too few families to split them.
    """

    def __init__(self, config: DocumentsConfig, stock: Stock) -> None:
        self.config, self.stock = config, stock
        self.parts: Parts = make_parts(config, stock.families)
        self._typesetter = Typesetter(stock.families)
        held_out = stock.sentences[::_HELD_OUT_SENTENCES]
        kept = tuple(s for n, s in enumerate(stock.sentences) if n % _HELD_OUT_SENTENCES)
        self._sentences: Mapping[Split, Sequence[str]] = {s: kept if s == "train" else held_out for s in SPLITS}

    def make(self, place: Place) -> Document:
        """That document.

        Raises:
            UnfitError: no draw fits a page of the configuration's size.
        """
        layouts = self.parts.layouts[place.split][place.kind]
        layout = layouts[place.index % len(layouts)]
        reason = ""
        for attempt, amount in enumerate(_AMOUNTS):
            seed = (self.config.seed, 2, SPLITS.index(place.split), KINDS.index(place.kind), place.index, attempt)
            w = Vocabulary(seed, amount, self._sentences[place.split])
            try:
                return self._draw(w, place, layout)
            except UnfitError as error:
                reason = str(error)
        raise UnfitError(f"{place.id} ({layout}): no draw fits; the last one: {reason}")

    def _draw(self, w: Vocabulary, place: Place, layout: str) -> Document:
        families = self.parts.families[place.split]
        if place.kind == "chart":
            families = chart_families(families)
        fonts = choose_fonts(w, families, mono=layout.startswith("receipt"), display=place.kind == "card")
        record = DRAW[place.kind](w, layout)
        sides = (self.config.min_side, self.config.max_side)
        if place.kind == "chart":
            from midsight.data.documents.plots import plot

            sheet = plot(w, record, layout, fonts, sides, self.config.min_text)
        else:
            sheet = self._set(w, record, place.kind, layout, fonts)
        degraded = degrade(sheet, w.rng, self.config.clean_share)
        questions = ask(w, record, degraded.sheet, self.config.max_questions)
        if not questions:
            raise UnfitError("nothing can be asked")
        return Document(place, layout, fonts, record, degraded, tuple(questions))

    def _set(self, w: Vocabulary, record: Record, kind: Kind, layout: str, fonts: Fonts) -> Sheet:
        """Typeset, at a scale that makes the smallest text large enough."""
        shown_icons = record.data.get("icons", ())
        room = self.config.max_side * SMALLEST / self.config.min_text
        style = draw_style(w, LAYOUTS[kind][layout], fonts, self.stock.icons, shown_icons, room)
        document = {"layout": layout, "fields": dict(record.fields), "data": dict(record.data), "style": style}
        pdf = self._typesetter.compile(kind, document)
        longer = max(page_size(pdf))
        least = max(self.config.min_text / (style["size"] * SMALLEST), self.config.min_side / longer)
        most = self.config.max_side / longer
        if least > most:
            raise UnfitError(f"a page of {longer:.0f} points would need more than {self.config.max_side} pixels")
        wanted = w.between(self.config.min_side, self.config.max_side) / longer
        return read_pdf(pdf, record.fields, max(wanted, least))


def places(config: DocumentsConfig, split: Split) -> Iterator[Place]:
    """All documents of a part, kinds taken in turn so that any stretch of them is mixed."""
    counts = {kind: config.count(split, kind) for kind in KINDS}
    order = [(n / count, kind, n) for kind, count in counts.items() for n in range(count)]
    return (Place(split, kind, n) for _, kind, n in sorted(order))


def save_picture(document: Document, folder: Path) -> str:
    """Writes the picture; returns its name."""
    data, suffix = encode(document.degraded)
    name = f"{document.place.id}.{suffix}"
    (folder / name).write_bytes(data)
    return name


def line(record: Mapping[str, Any]) -> bytes:
    """One line of JSONL."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _rounded(box: Box) -> list[float]:
    return [round(float(value), 1) for value in box]
