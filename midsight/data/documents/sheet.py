"""A drawn document: its pixels, its words and the places of its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midsight.data.documents.record import Box
from midsight.errors import MidsightError


class UnfitError(MidsightError):
    """A draw that does not fit its page: text over text, over the edge, or too small; another one is drawn."""


@dataclass(frozen=True)
class Word:
    """A word as read off the page, in reading order of the file."""

    text: str
    box: Box


@dataclass(frozen=True)
class Sheet:
    """One picture and its exact truth, in pixels."""

    pixels: NDArray[np.uint8]  # H, W, 3
    words: tuple[Word, ...]
    places: Mapping[str, tuple[Box, ...]]  # field -> one box for each of its lines


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around all."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def check_words(words: Sequence[Word], width: float, height: float, margin: float = 1.0, most: float = 0.1) -> None:
    """Every word on the page, and none over another.

    Raises:
        UnfitError: a word leaves the page, or covers more than `most` of another one.
    """
    if not words:
        raise UnfitError("no words")
    b = np.array([word.box for word in words])  # N, 4
    outside = (b[:, :2] < margin).any(1) | (b[:, 2] > width - margin) | (b[:, 3] > height - margin)
    if outside.any():
        raise UnfitError(f"{words[int(outside.argmax())].text!r} leaves the page")
    over = np.minimum(b[:, None, 2:], b[None, :, 2:]) - np.maximum(b[:, None, :2], b[None, :, :2])  # N, N, 2
    area = over.clip(0).prod(2)
    np.fill_diagonal(area, 0)
    own = (b[:, 2:] - b[:, :2]).prod(1).clip(1e-6)
    covered = area / np.minimum(own[:, None], own[None, :])
    if covered.max() > most:
        first, second = np.unravel_index(int(covered.argmax()), covered.shape)
        raise UnfitError(f"{words[int(first)].text!r} lies over {words[int(second)].text!r}")


def check_contrast(pixels: NDArray[np.uint8], words: Sequence[Word], least: int = 60) -> None:
    """Every word can be told from what it stands on: the green of its box's pixels differs by so many of 255 at least.

    Raises:
        UnfitError: one cannot.
    """
    green = pixels[..., 1].astype(int)  # H, W; the most of brightness
    for word in words:
        x0, y0, x1, y1 = (int(v) for v in word.box)
        part = green[y0 : y1 + 1, x0 : x1 + 1]
        if part.size == 0 or part.max() - part.min() < least:
            raise UnfitError(f"{word.text!r} cannot be told from its ground")
