"""Words in pictures of text, by PP-OCRv4 in the package rapidocr-onnxruntime.

The engine finds lines. It often leaves out the spaces inside them and joins cells of a table; where a line is white for
wider than between its letters, another word begins. White that could be between two words or two letters of one counts
as what makes more sense of the letters, by a list of common words.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import MissingDependencyError
from midsight.images import Pixels
from midsight.library.documents.layout import Word
from midsight.transforms.tokenizer import MERGES, whole_words

INSTALL = "pip install 'midsight[documents]' && pip install --no-deps rapidocr-onnxruntime==1.4.4"
LEAST_SIDE = 8  # pixels of the shorter side; nothing can be read in less
LEAST_SCORE = 0.5  # of a line, as the package has it
_UPRIGHT = 1.5  # height over width, from which the engine turns a line before it reads it
_INK = 0.35  # of a line's contrast: a column with less than that is white
_SPACE = 0.17  # of the line's height: the least white between two words
_DIGITS, _WIDE = 0.4, 0.5  # of the line's height: so much white parts even two figures, even signs
_CLOSING, _OPENING = frozenset(".,;:!?)]%'/-"), frozenset("([/'-#$\N{EURO SIGN}\N{POUND SIGN}")
_PADDING = 0.12  # of the line's height, above and below: what the detector adds to the letters
_TO_LETTERS = 2.2  # a space is at least so many times the usual white between letters
_AROUND = ".,;:!?()[]\"'\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_MOST_PIECES = 8  # of a word that white seemed to part
_PARTING = "\N{MIDDLE DOT}\N{BULLET}|"  # signs that stand between words, and never inside of one
_WIDE_FORMS = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3001: ",", 0x3002: "."}  # as Chinese writes

_GLUED = re.compile(
    r"[a-z]{2}\d|\d[A-Za-z]{3}|[a-z][.,;:!?][A-Za-z]|[a-z][A-Z][a-z]|[a-z]{16}"
)  # words without a space
_NO_WORDS = re.compile(r"[@/_]|www\.|\.(com|org|net|eu|gov|edu|co|io|de|uk)\b", re.I)  # addresses
_POUND = re.compile(r"(?<![\w.,])f(?=\d[\d,]*\.\d\d\b)")  # what the engine makes of a pound sign

Centres = Sequence[float]  # of the letters, shares of the line's length
Gap = tuple[float, float]  # a white stretch, shares of the line's length


def recognise(pixels: Pixels) -> list[Word]:
    """The words of a picture, in boxes of its pixels.

    Args:
        pixels: uint8 (H, W, 3), RGB.

    Raises:
        MissingDependencyError: rapidocr-onnxruntime or what it needs is not installed.
    """
    reader = engine()
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return []
    image = np.ascontiguousarray(pixels[..., ::-1])  # as OpenCV: blue first
    corners, _ = reader(image, use_rec=False, use_cls=False)
    if not corners:
        return []
    corners = [np.array(box, np.float32) for box in corners]
    lines = reader.get_crop_img_list(image, corners)
    read, _ = reader.text_rec(lines, True)
    words: list[Word] = []
    for box, line, (written, score, *more) in zip(corners, lines, read, strict=True):
        text = _POUND.sub("\N{POUND SIGN}", written.translate(_WIDE_FORMS))
        if text.strip() and score >= LEAST_SCORE:
            words += _words(box, line, text, _centres(more[0]))
    return words


def _centres(places: Sequence[Any]) -> list[float]:
    """Where the letters are read, from the recogniser's columns."""
    count, _, columns, *_ = places
    return [(column + 0.5) / count for word in columns for column in word]


def _words(box: npt.NDArray[Any], line: npt.NDArray[Any], text: str, centres: Centres) -> list[Word]:
    """The words of one line, each with its stretch of the line's box."""
    turned = np.linalg.norm(box[0] - box[3]) >= _UPRIGHT * np.linalg.norm(box[0] - box[1])
    return [Word(word, _stretch(box, *((0.0, 1.0) if turned else ends))) for word, *ends in split(line, text, centres)]


def split(line: npt.NDArray[Any], text: str, centres: Centres) -> list[tuple[str, float, float]]:
    """Words of a line with their ends as shares of its length: parted by its spaces and by what is white in it.

    Args:
        line: uint8 (H, W, 3), the cut-out line.
        text: what was read in it.
        centres: of the text's letters, one each.
    """
    gaps, height = white_gaps(line), line.shape[0] / line.shape[1]
    trusted = _trusted(text)
    words: list[tuple[str, float, float]] = []
    doubted: list[bool] = []
    start, word = 0.0, ""
    for index, letter in enumerate(text):
        parts = letter in _PARTING or (index > 0 and text[index - 1] in _PARTING)
        blank, after = letter.isspace(), min(index + letter.isspace(), len(text) - 1)
        between = _gap_between(gaps, centres[index - 1], centres[after]) if index else None
        if not (parts or blank) and between is not None:
            known = _DIGITS if trusted[index] else 0.0  # where the engine saw spaces, it is believed but for wide gaps
            if between[1] - between[0] < max(known, _least(text[max(0, index - 2) : index], letter)) * height:
                between = None
        if word and (between or parts or blank):
            middle = centres[index] if blank else (centres[index - 1] + centres[index]) / 2
            end, begin = between or (middle, middle)
            words.append((word, start, max(start, end)))
            narrow = between is not None and between[1] - between[0] < _DIGITS * height
            doubted.append(narrow and not parts and not blank)
            start, word = begin, ""
        word += letter.strip()
    return _sensible([*words, (word, start, 1.0)] if word else words, doubted)


def _sensible(words: list[tuple[str, float, float]], doubted: Sequence[bool]) -> list[tuple[str, float, float]]:
    """Neighbours joined where that makes more sense.

    Args:
        doubted: for each word but the last, whether it may go on in the next.
    """
    if not any(doubted):
        return words
    best: list[tuple[float, int]] = [(0.0, 0)]  # for so many words: the least cost, and where the last one begins
    for end in range(1, len(words) + 1):
        begin, found = end - 1, (math.inf, end - 1)
        while begin >= 0 and end - begin <= _MOST_PIECES:
            cost = best[begin][0] + _cost("".join(word for word, *_ in words[begin:end]))
            found = min(found, (cost, begin))
            if begin == 0 or not doubted[begin - 1] or not all(map(_is_letters, words[begin - 1 : end])):
                break
            begin -= 1
        best.append(found)
    joined, end = [], len(words)
    while end:
        begin = best[end][1]
        joined.append(("".join(word for word, *_ in words[begin:end]), words[begin][1], words[end - 1][2]))
        end = begin
    return joined[::-1]


def _is_letters(found: tuple[str, float, float]) -> bool:
    return found[0].strip(_AROUND).isalpha()


def _cost(word: str) -> float:
    """How little sense a word makes: below 1 if it is common, more for a longer one that nobody knows."""
    bare = word.strip(_AROUND).lower()
    if not bare or any(c.isdigit() for c in bare):
        return 0.8
    if len(bare) == 1:
        return 0.7 if bare in "ai" else 2.0
    if (rank := _common().get(bare)) is not None:
        return math.log(rank + 100) / math.log(MERGES)
    return 1.5 + 0.15 * len(bare) + 3.0 * bool(re.search("[a-z][A-Z]", word))


@lru_cache(maxsize=1)
def _common() -> dict[str, int]:
    """Whole words of CLIP's vocabulary, the most common first, with their rank."""
    return {word.lower(): rank for rank, word in enumerate(whole_words())}


def _trusted(text: str) -> list[bool]:
    """For each letter, whether the engine seems to have seen the spaces around it: some in the line, none left out."""
    if " " not in text.strip():
        return [False] * len(text)
    found = [True] * len(text)
    for token in re.finditer(r"\S+", text):
        if _GLUED.search(token.group()) and not _NO_WORDS.search(token.group()):
            found[token.start() : token.end()] = [False] * len(token.group())
    return found


def _least(before: str, right: str) -> float:
    """The least white, in the line's height, that parts a letter from the two before it.

    Figures and signs are narrow and look apart.
    """
    left = before[-1]
    if left.isdigit() and right.isdigit():
        return _DIGITS
    number = left in ".,:" and before[0].isdigit() and right.isdigit()
    return _WIDE if number or right in _CLOSING or left in _OPENING else 0.0


def _gap_between(gaps: Sequence[Gap], left: float, right: float) -> Gap | None:
    """A white stretch whose middle lies between two letters."""
    return next((gap for gap in gaps if left < sum(gap) / 2 < right), None)


def white_gaps(line: npt.NDArray[Any]) -> list[Gap]:
    """White stretches of a line that part words, as shares of its length."""
    grey = line.mean(axis=2)
    paper = np.median(grey)
    ink = np.abs(grey - paper).max(axis=0)
    if not ink.max():
        return []
    dark = np.flatnonzero(ink > _INK * np.percentile(ink, 90))
    steps = np.diff(dark) - 1
    whites = [(int(dark[i]) + 1, int(dark[i + 1])) for i in np.flatnonzero(steps > 0)]
    if not whites:
        return []
    height, length = grey.shape
    usual = float(np.median([end - start for start, end in whites]))
    narrow = [end - start for start, end in whites if end - start <= usual]
    least = max(_SPACE * height, _TO_LETTERS * float(np.mean(narrow)) if len(whites) > 2 else 0.0)
    least = min(least, 0.45 * height)
    return [(start / length, end / length) for start, end in whites if end - start >= least]


def _stretch(box: npt.NDArray[Any], start: float, end: float) -> tuple[float, float, float, float]:
    """The upright box around a stretch of a line; corners go round from the top left."""
    top, bottom = box[1] - box[0], box[2] - box[3]
    points = np.stack([box[0] + start * top, box[0] + end * top, box[3] + start * bottom, box[3] + end * bottom])
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    padding = _PADDING * (y1 - y0)
    return x0, y0 + padding, x1, y1 - padding


@lru_cache(maxsize=1)
def engine() -> Any:
    """The package's engine, opened once.

    Raises:
        MissingDependencyError: rapidocr-onnxruntime or what it needs is not installed.
    """
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError as error:
        raise MissingDependencyError(
            f"text in pictures is read by rapidocr-onnxruntime, which is not installed ({error}): {INSTALL}, "
            "or do without it: --ocr never"
        ) from error
    from midsight.files import available_cpus

    return RapidOCR(intra_op_num_threads=available_cpus(), text_score=LEAST_SCORE)
