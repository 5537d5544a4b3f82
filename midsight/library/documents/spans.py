"""What on a page may be an answer: cells, values behind a colon, names and numbers in running text, sentences.

Each span comes with its keys: what a reader would say that it is the value of. In a table those are the head of its
row and of its column, in a form the label on its left, above it, or before the colon.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from midsight.library.documents.layout import Line, Word
from midsight.library.documents.numerals import number
from midsight.plm.boxes import Box

_PROSE = 6  # words, from which a cell is running text
_SENTENCE_WORDS = 40
_LABEL_WORDS = 3  # of a label below
_COUNTED_WORDS = 2  # behind a number that tell what it counts
_BARS = 3  # names on the axis of a chart, at least
_ON_AXIS = 0.5  # of half the way to the next name: so near to its middle a number stands over a name
_MOST_ROWS = 80  # between a row and its head
_ROW_GAP = 2.5  # of the line's height: the most white between two rows of a table
_COLUMNS_GAP = 6.0  # the same between rows of as many columns, one more or one less: a picture stands between them
_TIGHT = 0.5  # of the white above and below: what there is between labels and their values
_KEY_WORDS = 8  # a longer cell is no label
_END = re.compile(r"[.!?][\"')\]]?$")
_OPENING = "([\"'\N{LEFT DOUBLE QUOTATION MARK}"
_EDGES = ".,;:?!()[]\"'\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_NUMBER = re.compile(r"[^\w\s]?\s?[+-]?\d")
_CALENDAR = re.compile(
    r"((mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?|jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?"
    r"|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?)\b"
    r"|((fy|q[1-4])\W?)?(19|20)\d\d\b(?![.,]\d)|q[1-4]\b|week \d",
    re.I,
)
_NAME = re.compile(r"[^\W\d_a-z]")
_JOINS = frozenset(("of", "de", "la", "van", "von", "der", "and", "&", "the"))


@dataclass(frozen=True)
class Span:
    """Words that follow each other on a page and may be an answer."""

    text: str
    words: tuple[Word, ...]
    line: int  # index of the first line
    beside: tuple[str, ...] = ()  # keys on the same row: label before the colon, cell on the left, head of the row
    above: tuple[str, ...] = ()  # the cell right above
    head: str = ""  # of its column, in a table
    over: tuple[str, ...] = ()  # further heads of its column, above that one
    under: tuple[str, ...] = ()  # the cell below a number, as on tiles
    row: tuple[str, ...] = ()  # all other cells of its row, in a table
    around: str = ""  # the line or sentence that it is part of
    whole: bool = True  # a cell or a sentence, not a part of one

    @property
    def boxes(self) -> list[Box]:
        """One box for each line of it."""
        found: list[list[float]] = []
        for word in self.words:
            x0, y0, x1, y1 = word.box
            if found and min(found[-1][3], y1) - max(found[-1][1], y0) > 0.5 * (y1 - y0) and x0 >= found[-1][0]:
                last = found[-1]
                found[-1] = [min(last[0], x0), min(last[1], y0), max(last[2], x1), max(last[3], y1)]
            else:
                found.append([x0, y0, x1, y1])
        return [(a, b, c, d) for a, b, c, d in found]


def spans(lines: Sequence[Line]) -> list[Span]:
    """All spans of a page, in reading order; of equal words with equal keys the first."""
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Span] = {}
    heads, stacked, bars = _heads(lines), _stacked(lines), _bars(lines)
    for index, line in enumerate(lines):
        paired = any(_is_pair(line, place) for place in range(len(line.cells)))
        for place, cell in enumerate(line.cells):
            head, *over = [_over(lines[upper], cell) for upper in heads.get(index, ())] or [""]
            for span in _of_cell(lines, index, place, cell):
                alone = index in stacked or index - 1 in stacked  # its neighbours on the line are not its labels
                own = tuple(key for key in span.beside if key not in _beside(line, place)) if alone else span.beside
                others = (*line.cells[:place], *line.cells[place + 1 :]) if head and span.whole and not paired else ()
                row = tuple(map(_text, others))
                name, title = bars.get((index, place), ("", ""))
                under, over = ((name,), [title]) if name else (span.under, over)
                span = replace(span, head=head, over=tuple(filter(None, over)), beside=own, row=row, under=under)
                found.setdefault((span.text, span.beside, span.above), span)
    for span in _sentences(lines):
        found.setdefault((span.text, (), ()), span)
    return [span for span in found.values() if any(c.isalnum() for c in span.text)]


def labels(lines: Sequence[Line], found: Sequence[Span]) -> set[str]:
    """Texts that name others: heads of columns, what stands before a colon, the left one of two cells."""
    named = {span.head for span in found if span.head}
    heads = _heads(lines)
    for index in _stacked(lines):
        named |= {_text(cell).strip(" :.") for cell in lines[index].cells}
    for index, line in enumerate(lines):
        for cell in line.cells:
            label, value = _parted(cell)
            named |= {_text(label).strip(" :.")} if value or _text(label).endswith(":") else set()
        if len(line.cells) == 2 and index not in heads and index - 1 not in _stacked(lines):
            named.add(_text(line.cells[0]).strip(" :."))
    return named


def _of_cell(lines: Sequence[Line], index: int, place: int, cell: tuple[Word, ...]) -> Iterator[Span]:
    beside, above = _beside(lines[index], place), _above(lines, index, cell)
    around = lines[index].text
    under = (*_under(lines, index, cell), *(_told_below(lines, index, place) if place else ()))
    label, value = _parted(cell)
    yield _span(cell, index, beside, above, around, under, whole=not value)
    if value:
        yield _span(value, index, (_text(label), *beside), above, around, under)
    below = _below(lines, index, cell)
    if below is not None and len(cell) >= 2:
        both = (*(value or cell), *below)
        yield _span(both, index, (*((_text(label),) if value else ()), *beside), above, around, whole=False)
    if len(value or cell) > 1:
        for part in _parts(value or cell):
            before = _text(_of_sentence(cell[: cell.index(part[0])])[-_KEY_WORDS:])
            counted = len(part) == 1 and _NUMBER.match(part[0].text) and not _closes(part[0])
            after = cell[cell.index(part[-1]) + 1 :][:_COUNTED_WORDS] if counted else ()  # 2 adults, 12:15 Lunch
            behind = _text(tuple(takewhile(lambda word: word.text[0].isalpha(), after)))
            keys = (*filter(None, (before, behind)), *beside)
            yield _span(part, index, keys, above, around, whole=False)


def _span(
    words: Sequence[Word],
    line: int,
    beside: Sequence[str] = (),
    above: Sequence[str] = (),
    around: str = "",
    under: Sequence[str] = (),
    whole: bool = True,
) -> Span:
    text = _text(words)
    bare = text.strip(":") if whole else text.lstrip(_OPENING).rstrip(_EDGES)
    return Span(
        bare.strip(),
        tuple(words),
        line,
        beside=tuple(beside),
        above=tuple(above),
        under=tuple(under),
        around=around,
        whole=whole,
    )


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _parted(cell: Sequence[Word]) -> tuple[Sequence[Word], Sequence[Word]]:
    """Label and value of a cell: behind the first word that ends in a colon, dots or an equals sign."""
    for at, word in enumerate(cell[:-1], start=1):
        if at <= _KEY_WORDS and re.search(r"(:|\.{2,}|\N{HORIZONTAL ELLIPSIS}|=)$", word.text):
            while (
                at < len(cell) - 1
                and not any(c.isalnum() for c in cell[at].text)
                and _NUMBER.match(cell[at].text) is None
            ):
                at += 1
            return cell[:at], cell[at:]
    return cell, ()


def _beside(line: Line, place: int) -> tuple[str, ...]:
    """The cell on the left, and the first of the row, unless a number between ends what that is the label of."""
    texts = [_text(cell) for cell in line.cells[:place]]
    first = () if _is_pair(line, place) else texts[:1]
    keys = [text for text in dict.fromkeys((*texts[-1:], *first)) if len(text.split()) <= _KEY_WORDS]
    return tuple(keys)


def _is_pair(line: Line, place: int) -> bool:
    """Whether a number and the words on its left are another pair of a row: Bonus 150 Pension 98."""
    if place < 2 or number(_text(line.cells[place])) is None or number(_text(line.cells[place - 1])) is not None:
        return False
    return any(number(_text(cell)) is not None for cell in line.cells[1 : place - 1])


def _above(lines: Sequence[Line], index: int, cell: Sequence[Word]) -> tuple[str, ...]:
    """The cell right above."""
    over = _over(lines[index - 1], cell) if index else ""
    return (over,) if over and len(over.split()) <= _KEY_WORDS else ()


def _heads(lines: Sequence[Line]) -> dict[int, list[int]]:
    """For each row of a table, the lines that hold heads of its columns, the nearest first.

    The nearest is the one above of which a cell over a number is not one, or a day, a month or a year; those further up
    count as far as rows of several cells follow each other closely. For rows without numbers it is the topmost alone.
    """
    found: dict[int, list[int]] = {}
    for index, line in enumerate(lines):
        if len(line.cells) < 2:
            continue
        numbers = _numbers(line)
        if len(line.cells) == 2 and not (
            numbers and any(map(_numbers, (*lines[index - 1 : index], *lines[index + 1 : index + 2])))
        ):
            continue
        for upper in range(index - 1, max(-1, index - _MOST_ROWS), -1):
            if len(lines[upper].cells) < 2 or not _follows(lines[upper], lines[upper + 1]):
                break
            over = [text for text in (_over(lines[upper], cell) for cell in numbers or line.cells) if text]
            if over and (not numbers or all(map(_is_head, over))):
                found[index] = [*found.get(index, []), upper] if numbers else [upper]
    return found


def _bars(lines: Sequence[Line]) -> dict[tuple[int, int], tuple[str, str]]:
    """For numbers of a chart, by line and cell: the name on the axis that they stand above, and the chart's title.

    The axis is a line of several cells without numbers, or of years and the like; numbers alone stand over it.
    """
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for axis, line in enumerate(lines):
        names = [(_text(cell), (cell[0].box[0] + cell[-1].box[2]) / 2) for cell in line.cells]
        if len(names) < _BARS or not all(map(_is_head, (name for name, _ in names))):
            continue
        half = min(b - a for (_, a), (_, b) in zip(names, names[1:], strict=False)) / 2
        top = axis
        while top and _is_of_chart(lines[top - 1], names[-1][1]):
            top -= 1
        title = lines[top - 1].text if top else ""
        for upper in range(top, axis):
            for place, cell in enumerate(lines[upper].cells):
                if number(_text(cell)) is None:
                    continue
                middle = (cell[0].box[0] + cell[-1].box[2]) / 2
                name, at = min(names, key=lambda entry: abs(entry[1] - middle))
                if abs(at - middle) < _ON_AXIS * half:
                    found[upper, place] = name, title
    return found


def _is_of_chart(line: Line, right: float) -> bool:
    """Whether a line has numbers alone, but for a legend on the right of the last name on the axis."""
    numbers = [cell for cell in line.cells if number(_text(cell)) is not None and not _NAME.search(_text(cell))]
    return bool(numbers) and all(cell in numbers or cell[0].box[0] > right for cell in line.cells)


def _is_head(text: str) -> bool:
    """Whether a text over a number can be the head of its column."""
    return _CALENDAR.match(text) is not None or not any(c.isdigit() for c in text)


def _stacked(lines: Sequence[Line]) -> set[int]:
    """Lines of labels that stand over their values, side by side as on a form: closer to what is below than above."""
    found = set()
    for index in range(len(lines) - 1):
        line, below = lines[index], lines[index + 1]
        if len(line.cells) < 2 or len(below.cells) > len(line.cells) or any(map(_parted_value, line.cells)):
            continue
        if _numbers(line):  # two rows of a list
            continue
        gap = below.box[1] - line.box[3]
        before = line.box[1] - lines[index - 1].box[3] if index else float("inf")
        after = lines[index + 2].box[1] - below.box[3] if index + 2 < len(lines) else float("inf")
        lefts = [cell[0].box[0] for cell in line.cells]
        height = line.box[3] - line.box[1]
        aligned = all(min(abs(cell[0].box[0] - left) for left in lefts) < 0.6 * height for cell in below.cells)
        if aligned and 0 <= gap < _TIGHT * before and gap < _TIGHT * after:
            found.add(index)
    return found


def _parted_value(cell: Sequence[Word]) -> bool:
    return bool(_parted(cell)[1])


def _numbers(line: Line) -> list[tuple[Word, ...]]:
    return [cell for cell in line.cells[1:] if number(_text(cell)) is not None]


def _follows(line: Line, other: Line) -> bool:
    """Whether the other line stands close below, as rows of one table do; less close where it has the same columns."""
    height = line.box[3] - line.box[1]
    alike = len(line.cells) > 2 and abs(len(line.cells) - len(other.cells)) <= 1
    return other.box[1] - line.box[3] < (_COLUMNS_GAP if alike else _ROW_GAP) * height


def _over(line: Line, cell: Sequence[Word]) -> str:
    """The cell of a line that stands over another cell."""
    left, right = cell[0].box[0], cell[-1].box[2]
    for other in line.cells:
        x0, x1 = other[0].box[0], other[-1].box[2]
        if min(right, x1) - max(left, x0) > 0.3 * min(right - left, x1 - x0):
            return _text(other)
    return ""


def _under(lines: Sequence[Line], index: int, cell: Sequence[Word]) -> tuple[str, ...]:
    """The text below: the label of a number on a tile, or of what was written on a line of a form."""
    if index + 1 >= len(lines) or len(cell) > _PROSE:
        return ()
    below = _over(lines[index + 1], cell)
    return (below,) if below and not below[:1].isdigit() and len(below.split()) <= _LABEL_WORDS else ()


def _told_below(lines: Sequence[Line], index: int, place: int) -> tuple[str, ...]:
    """What is told below of the thing on the left of a number, as of a dish on a menu: words, and no numbers there."""
    left = lines[index].cells[place - 1]
    if index + 1 >= len(lines) or _numbers(lines[index + 1]) or number(_text(lines[index].cells[place])) is None:
        return ()
    height = left[0].box[3] - left[0].box[1]
    for below in lines[index + 1].cells:
        near = abs(below[0].box[0] - left[0].box[0]) < height and below[0].box[1] - left[0].box[3] < 0.8 * height
        if near and len(below) <= _KEY_WORDS:
            return (_text(below),)
    return ()


def _below(lines: Sequence[Line], index: int, cell: Sequence[Word]) -> tuple[Word, ...] | None:
    """A cell that may go on with this one: right below it, with the same left edge."""
    if index + 1 >= len(lines):
        return None
    left, top, _, bottom = cell[0].box
    for other in lines[index + 1].cells:
        x0, y0, _, _ = other[0].box
        if abs(x0 - left) < 0.5 * (bottom - top) and y0 - bottom < 0.8 * (bottom - top):
            return other
    return None


def _parts(cell: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Numbers with their units, dates, and names inside a longer cell: runs of words of one look."""
    start = 0
    while start < len(cell):
        end = start + 1
        if _NUMBER.match(cell[start].text):
            yield cell[start:end]
            while end < min(len(cell), start + 3) and len(cell[end].text) <= 12 and not _closes(cell[end - 1]):
                end += 1
                yield cell[start:end]
            start += 1
        elif _NAME.match(cell[start].text.lstrip(_OPENING)):
            while end < len(cell) and not _closes(cell[end - 1]) and _goes_on(cell, end):
                end += 1
            yield cell[start:end]
            if end < len(cell) and _NUMBER.match(cell[end].text):  # Block 16
                yield cell[start : end + 1]
                if end + 1 < len(cell) and _NUMBER.match(cell[end + 1].text):  # March 25, 2024
                    yield cell[start : end + 2]
            if end - start > 2:
                yield cell[start : start + 2]
            start = end
        else:
            start += 1


def _of_sentence(words: Sequence[Word]) -> Sequence[Word]:
    """What of some words belongs to the last sentence."""
    ends = [at for at, word in enumerate(words, start=1) if _END.search(word.text) and len(word.text) > 3]
    return words[ends[-1] :] if ends else words


def _goes_on(cell: Sequence[Word], at: int) -> bool:
    """Whether a name goes on: another capital, or a small word between two of them."""
    if _NAME.match(cell[at].text):
        return True
    return cell[at].text in _JOINS and at + 1 < len(cell) and _NAME.match(cell[at + 1].text) is not None


def _closes(word: Word) -> bool:
    return word.text[-1:] in ",;:" or (_END.search(word.text) is not None and len(word.text) > 3)


def _sentences(lines: Sequence[Line]) -> Iterator[Span]:
    """Sentences of running text, over line ends."""
    sentence: list[Word] = []
    start = 0
    for index, line in enumerate(lines):
        if len(line.cells) > 1 or (len(line.words) < _PROSE and not sentence):
            sentence = []
            continue
        for word in line.words:
            start = index if not sentence else start
            sentence.append(word)
            if _END.search(word.text) and len(word.text) > 2:
                if 3 < len(sentence) <= _SENTENCE_WORDS:
                    text = _text(sentence)
                    yield Span(text, tuple(sentence), start, around=text)
                sentence = []
