"""Words with boxes to text in reading order: words of a line joined, cells of a table kept apart, columns one by one.

A language model that sees no page reads a table only if each row stands on a line of its own, and a page of two
columns only if the columns follow each other. Both are told from the gaps between words alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from midsight.plm.boxes import Box

_YEAR = re.compile(r"(19|20)\d\d$")
CELL = " | "  # between cells of one line
_CELL_GAP = 1.2  # of the letters' height: a wider gap inside a line starts another cell
_CLOSE_GAP, _BESIDE = 0.45, 2  # of the letters' height, where a cell of so many rows above or below starts or ends
_CLOSEST_GAP, _AGREE = 0.2, 2  # of the letters' height, where cells of so many rows start
_SAME = 0.3  # of the letters' height: the same place
_WIDE_GAP, _WIDER = 0.3, 1.3  # of the letters' height, of the usual white between words: where words of rows start
_HALF_LINE = 0.3  # of the letters' height: rows that overlap by more are one row of a table
_GUTTER = 1.2  # of the letters' height: the least white between two columns of text
_APART = 1.8  # of the letters' height: so much white ends columns of text
_PROSE_WORDS = 4.0  # words of the median line, from which a block is prose and not a column of a table
_MAX_DEPTH = 8
_MAX_ROW = 4.0  # of the letters' height: a row of a table is not taller
_STEEPEST = 0.08  # slope of a page's lines that is looked for: 4.6 degrees
_SHARPER = 1.15  # so much better must a slope be than none


@dataclass(frozen=True)
class Word:
    """A word of a page."""

    text: str
    box: Box  # x0, y0, x1, y1, pixels of the page


@dataclass(frozen=True)
class Line:
    """One line: its cells from left to right, each a run of words."""

    cells: tuple[tuple[Word, ...], ...]

    @property
    def text(self) -> str:
        """Cells apart by `CELL`, words by spaces."""
        return CELL.join(" ".join(word.text for word in cell) for cell in self.cells)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words in order."""
        return tuple(word for cell in self.cells for word in cell)

    @property
    def box(self) -> Box:
        """Around all its words."""
        return around([word.box for word in self.words])


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def read_lines(words: Sequence[Word]) -> list[Line]:
    """The lines of a page in reading order.

    Columns of prose are read one after the other; whatever else stands side by side is read row by row.
    """
    shown = [word for word in words if word.text.strip() and word.box[2] > word.box[0] and word.box[3] > word.box[1]]
    if not shown:
        return []
    levelled = _levelled(shown)
    where = {id(moved): word for moved, word in zip(levelled, shown, strict=True)}
    lines = _block(levelled, 0)
    return [Line(tuple(tuple(where[id(word)] for word in cell) for cell in line.cells)) for line in lines]


def _levelled(words: Sequence[Word]) -> list[Word]:
    """The words as they would stand if the page lay straight: a scan is often turned by a degree or two.

    Of many slopes the one at which the words' edges fall together on the fewest heights.
    """
    boxes = np.array([word.box for word in words])
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    middle = boxes[:, ::2].mean(axis=1)

    def sharpness(slope: float) -> float:
        edges = (boxes[:, 1::2] - (middle * slope)[:, None]) / (0.25 * height)
        return float(sum((np.unique(np.rint(side), return_counts=True)[1] ** 2).sum() for side in edges.T))

    slopes = np.linspace(-_STEEPEST, _STEEPEST, 81)
    found = [sharpness(slope) for slope in slopes]
    best = int(np.argmax(found))
    slope = float(slopes[best]) if found[best] > _SHARPER * sharpness(0.0) else 0.0
    moved = boxes - np.outer(middle * slope, (0, 1, 0, 1))
    return [Word(word.text, (x0, y0, x1, y1)) for word, (x0, y0, x1, y1) in zip(words, moved.tolist(), strict=True)]


def _block(words: list[Word], depth: int) -> list[Line]:
    """Lines of a block: cut at columns of prose where it has them."""
    rows = _rows(words)
    if depth < _MAX_DEPTH and len(rows) > 3:
        for first, last in _column_runs(rows):
            left, right = _cut(rows[first:last])
            before = [word for row in rows[:first] for word in row]
            after = [word for row in rows[last:] for word in row]
            parts = [part for part in (before, left, right, after) if part]
            return [line for part in parts for line in _block(part, depth + 1)]
    lines: list[Line] = []
    for line in map(_line, rows):
        if lines and _is_half_below(lines[-1], line):
            lines[-1] = _merged(lines[-1], line)
        else:
            lines.append(line)
    return [_parted(lines, index) for index in range(len(lines))]


def _parted(lines: Sequence[Line], index: int) -> Line:
    """A row of a table, its cells parted where they stand close but a cell of a row beside it starts or ends there."""
    line = lines[index]
    if len(line.cells) < 2 and not _in_table(lines, index):
        return line
    near = [*lines[max(0, index - _BESIDE) : index], *lines[index + 1 : index + 1 + _BESIDE]]
    rows = [other for other in near if len(other.cells) > 1]
    full = [cell for other in rows for cell in other.cells[1:] if len(other.cells) > 2]
    ends = [cell[-1].box[2] for cell in full if _has_digit(cell[-1])]  # numbers stand on the right of their column
    height = max(word.box[3] - word.box[1] for word in line.words)
    gaps = sorted(gap for row in (line, *rows) for gap in _gaps_inside(row))
    usual = gaps[len(gaps) // 4] if gaps else 0.0  # some of them may be between cells
    wide = max(_WIDE_GAP * height, _WIDER * usual)
    columns = [[cell[0].box[0] for cell in row.cells[1:]] for row in rows]
    behind = [_starts(row, wide) for row in rows]
    cells: list[list[Word]] = []
    for cell in line.cells:
        cells.append([cell[0]])
        for before, word in zip(cell, cell[1:], strict=False):
            gap, left, right = word.box[0] - before.box[2], word.box[0], before.box[2]
            meets = any(abs(left - cell[0].box[0]) < _CLOSE_GAP * height for cell in full) or (
                _has_digit(before) and any(abs(right - end) < _CLOSE_GAP * height for end in ends)
            )
            cells_start, words_start = (
                sum(any(abs(left - x0) < _SAME * height for x0 in starts) for starts in places)
                for places in (columns, behind)
            )
            if (
                (gap > _CLOSE_GAP * height and meets and len(line.cells) > 1)
                or (gap > _CLOSEST_GAP * height and cells_start >= _AGREE)
                or (gap > wide and words_start >= _AGREE)
            ):
                cells.append([word])
            else:
                cells[-1].append(word)
    return Line(tuple(map(tuple, cells)))


def _in_table(lines: Sequence[Line], index: int) -> bool:
    """Whether rows of a table stand above and below a line of one cell."""
    around_it = [*lines[max(0, index - 1) : index], *lines[index + 1 : index + 2]]
    return len(around_it) == 2 and all(len(other.cells) > 1 for other in around_it)


def _has_digit(word: Word) -> bool:
    return any(c.isdigit() for c in word.text)


def _gaps_inside(line: Line) -> list[float]:
    """White between the words of cells."""
    pairs = [pair for cell in line.cells for pair in zip(cell, cell[1:], strict=False)]
    return [word.box[0] - before.box[2] for before, word in pairs]


def _starts(line: Line, gap: float) -> list[float]:
    """Left edges of what stands behind so much white in a line."""
    pairs = zip(line.words, line.words[1:], strict=False)
    return [word.box[0] for before, word in pairs if word.box[0] - before.box[2] > gap]


def _is_half_below(line: Line, other: Line) -> bool:
    """Whether the other is in the same row of a table: half a line lower, beside the last words and not below them.

    A cell of two lines stands so beside a cell of one.
    """
    (_, _, _, bottom), (x0, top, x1, lower) = line.box, other.box
    height = median(w.box[3] - w.box[1] for w in (*line.words, *other.words))
    beside = all(w.box[2] < x0 or w.box[0] > x1 for w in _lowest(line))
    fits = lower - line.box[1] < _MAX_ROW * height
    return bottom - top > _HALF_LINE * height and lower > bottom and beside and fits


def _lowest(line: Line) -> list[Word]:
    """The words that stand lowest in a row."""
    bottom = max(word.box[3] for word in line.words)
    return [w for w in line.words if bottom - w.box[3] < _HALF_LINE * (w.box[3] - w.box[1])]


def _merged(line: Line, other: Line) -> Line:
    """One row of both: words go to the cell that they stand under, or are a cell of their own."""
    cells = [list(cell) for cell in line.cells]
    for cell in other.cells:
        left, right = cell[0].box[0], cell[-1].box[2]
        under = [c for c in cells if min(w.box[0] for w in c) < right and max(w.box[2] for w in c) > left]
        if under:
            under[0].extend(cell)
        else:
            cells.append(list(cell))
    return Line(tuple(map(tuple, sorted(cells, key=lambda c: min(w.box[0] for w in c)))))


def _rows(words: Sequence[Word]) -> list[list[Word]]:
    """Words that stand on one line, from top to bottom, each from left to right."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda w: (w.box[1] + w.box[3]) / 2):
        if rows and _shares_line(rows[-1], word):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [sorted(row, key=lambda w: w.box[0]) for row in rows]


def _shares_line(row: Sequence[Word], word: Word) -> bool:
    """Whether the word's middle lies in the line, and it stands on none of its words."""
    middle = (word.box[1] + word.box[3]) / 2
    top = median(w.box[1] for w in row)
    bottom = median(w.box[3] for w in row)
    height = min(bottom - top, word.box[3] - word.box[1])
    overlap = min(bottom, word.box[3]) - max(top, word.box[1])
    return overlap > 0.5 * height and top <= middle <= bottom


def _line(row: Sequence[Word]) -> Line:
    height = median(w.box[3] - w.box[1] for w in row)
    cells: list[list[Word]] = []
    for word in row:
        years = bool(cells) and _YEAR.match(word.text) and _YEAR.match(cells[-1][-1].text)  # heads of columns
        if cells and not years and word.box[0] - cells[-1][-1].box[2] <= _CELL_GAP * height:
            cells[-1].append(word)
        else:
            cells.append([word])
    return Line(tuple(map(tuple, cells)))


def _column_runs(rows: list[list[Word]]) -> list[tuple[int, int]]:
    """Stretches of rows that are columns of prose: at most the first one of them, as (first, behind the last)."""
    for first in range(len(rows) - 3):
        gutters = _gaps(rows[first])
        last = first + 1
        while gutters and last < len(rows):
            narrowed = _shared(gutters, rows[last])
            if not narrowed or _stands_alone(rows[last], rows[last - 1], narrowed[0]):
                break
            gutters, last = narrowed, last + 1
        if last - first > 3 and gutters and _is_prose(rows[first:last], gutters[0]):
            return [(first, last)]
    return []


def _stands_alone(row: Sequence[Word], before: Sequence[Word], gutter: tuple[float, float]) -> bool:
    """Whether a row on one side of the gutter stands apart from the rows before it, as a foot below columns does."""
    height = median(w.box[3] - w.box[1] for w in row)
    one_side = row[-1].box[2] <= gutter[0] or row[0].box[0] >= gutter[1]
    return one_side and min(w.box[1] for w in row) - max(w.box[3] for w in before) > _APART * height


def _gaps(row: Sequence[Word]) -> list[tuple[float, float]]:
    """White stretches of a row that may be a gutter."""
    height = median(w.box[3] - w.box[1] for w in row)
    pairs = zip(row, row[1:], strict=False)
    return [(a.box[2], b.box[0]) for a, b in pairs if b.box[0] - a.box[2] > _GUTTER * height]


def _shared(gutters: Sequence[tuple[float, float]], row: Sequence[Word]) -> list[tuple[float, float]]:
    """What of the gutters stays white in another row."""
    height = median(w.box[3] - w.box[1] for w in row)
    edges = [(float("-inf"), row[0].box[0]), *_gaps(row), (row[-1].box[2], float("inf"))]
    kept = []
    for left, right in gutters:
        for a, b in edges:
            x0, x1 = max(left, a), min(right, b)
            if x1 - x0 > 0.8 * _GUTTER * height:
                kept.append((x0, x1))
    return kept


def _is_prose(rows: Sequence[Sequence[Word]], gutter: tuple[float, float]) -> bool:
    """Whether both sides of the gutter are running text: long lines most of the time."""
    middle = sum(gutter) / 2
    for side in (0, 1):
        counts = [sum((w.box[0] > middle) == bool(side) for w in row) for row in rows]
        filled = [count for count in counts if count]
        if len(filled) < 3 or median(filled) < _PROSE_WORDS:
            return False
    return True


def _cut(rows: Sequence[Sequence[Word]]) -> tuple[list[Word], list[Word]]:
    """Left and right of the first gutter that all rows share."""
    gutters = _gaps(rows[0])
    for row in rows[1:]:
        gutters = _shared(gutters, row)
    middle = sum(gutters[0]) / 2
    words = [word for row in rows for word in row]
    return [w for w in words if w.box[0] < middle], [w for w in words if w.box[0] >= middle]
