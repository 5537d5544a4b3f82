"""Boxes follow the pixels, and the text stays."""

import io

import numpy as np
import pytest
from PIL import Image

from midsight.data.documents.degrade import degrade, encode
from midsight.data.documents.record import Box
from midsight.data.documents.sheet import Sheet, Word

BOXES: tuple[Box, ...] = ((60, 50, 160, 62), (200, 300, 340, 312), (100, 180, 112, 192))


def _sheet() -> Sheet:
    """Black bars on white, each a word."""
    pixels = np.full((400, 420, 3), 255, np.uint8)
    for x0, y0, x1, y1 in BOXES:
        pixels[int(y0) : int(y1), int(x0) : int(x1)] = 0
    words = tuple(Word(f"w{n}", box) for n, box in enumerate(BOXES))
    return Sheet(pixels, words, {word.text: (word.box,) for word in words})


@pytest.mark.parametrize("seed", range(30))
def test_boxes_follow_what_is_done_to_the_picture(seed: int) -> None:
    done = degrade(_sheet(), np.random.default_rng(seed), clean_share=0.0)
    grey = done.sheet.pixels.astype(float).mean(2)
    assert done.sheet.pixels.shape == (400, 420, 3)
    for n, word in enumerate(done.sheet.words):
        assert done.sheet.places[f"w{n}"] == (word.box,)
        x0, y0, x1, y1 = (round(value) for value in word.box)
        around = np.concatenate([grey[y0 - 6 : y0 - 3, x0:x1].ravel(), grey[y1 + 3 : y1 + 6, x0:x1].ravel()])
        inside = grey[y0:y1, x0:x1]
        assert np.median(around) - np.percentile(inside, 25) > 80  # dark in, light out
        columns = np.nonzero((np.median(around) - grey[y0:y1, x0 - 8 : x1 + 8]).max(0) > 60)[0]
        assert abs(columns[0] - 8) <= 3
        assert abs(columns[-1] + 1 - (x1 - x0) - 8) <= 3


def test_some_are_turned_and_the_share_of_clean_ones_holds() -> None:
    done = [degrade(_sheet(), np.random.default_rng(seed), clean_share=0.4) for seed in range(100)]
    assert 25 < sum(not d.steps for d in done) < 55
    for step in ("tint", "contrast", "shade", "turn", "blur", "noise", "jpeg"):
        assert sum(step in d.steps for d in done) > 5
    clean = next(d for d in done if not d.steps)
    np.testing.assert_array_equal(clean.sheet.pixels, _sheet().pixels)


def test_words_at_the_edge_stay_in_the_picture() -> None:
    sheet = _sheet()
    edge: Box = (1, 1, 418, 12)
    sheet = Sheet(sheet.pixels, (Word("edge", edge),), {"edge": (edge,)})
    for seed in range(40):
        x0, y0, x1, y1 = degrade(sheet, np.random.default_rng(seed), 0.0).sheet.words[0].box
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 420
        assert y1 <= 400


def test_files_hold_the_picture() -> None:
    suffixes = set()
    for seed in range(12):
        done = degrade(_sheet(), np.random.default_rng(seed), clean_share=0.5)
        data, suffix = encode(done)
        suffixes.add(suffix)
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(picture - done.sheet.pixels).mean() < (0.01 if suffix == "png" else 12)
    assert suffixes == {"png", "jpg"}
