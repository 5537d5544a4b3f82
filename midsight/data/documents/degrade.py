"""What happens to a page on its way to a picture: tint, shade, a turn, blur, noise, a smaller copy, compression."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from midsight.data.documents.record import Box
from midsight.data.documents.sheet import Sheet, Word

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Degraded:
    """The picture as it is written, and what was done to it."""

    sheet: Sheet
    steps: tuple[str, ...]
    quality: int | None  # of JPEG; None: PNG


def degrade(sheet: Sheet, rng: np.random.Generator, clean_share: float) -> Degraded:
    """The sheet with some of the steps, each mild enough that the text stays readable; boxes follow the turn."""
    if rng.random() < clean_share:
        return Degraded(sheet, (), None if rng.random() < 0.5 else 95)
    steps = []
    pixels: NDArray[np.float32] = sheet.pixels.astype(np.float32)
    turn = None
    if rng.random() < 0.3:
        steps.append("tint")
        pixels = pixels * rng.uniform(0.85, 1.0, 3).astype(np.float32)
    if rng.random() < 0.25:
        steps.append("contrast")
        low, high = np.float32(rng.uniform(20, 70)), np.float32(rng.uniform(190, 240))
        pixels = low + pixels / np.float32(255) * (high - low)
    if rng.random() < 0.3:
        steps.append("shade")
        pixels = pixels * _shade(rng, pixels.shape[:2])[..., None]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.35 and (turn := _turn(sheet, image.size, float(rng.uniform(-2.5, 2.5)))) is not None:
        steps.append("turn")
        image = turn.picture(image)
    if rng.random() < 0.4:
        steps.append("blur")
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    if rng.random() < 0.35:
        steps.append("noise")
        noisy = np.asarray(image).astype(np.float32) + rng.normal(0, rng.uniform(2, 10), (*image.size[::-1], 1))
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    quality = int(rng.integers(40, 95)) if rng.random() < 0.75 else None
    if quality is not None:
        steps.append("jpeg")
    turned = sheet if turn is None else turn.moved(sheet)
    return Degraded(Sheet(np.asarray(image), turned.words, turned.places), tuple(steps), quality)


def encode(degraded: Degraded) -> tuple[bytes, str]:
    """The file's bytes and its suffix."""
    file = io.BytesIO()
    image = Image.fromarray(degraded.sheet.pixels)
    if degraded.quality is None:
        image.save(file, "PNG", compress_level=3)  # twice as fast as the default, and little larger
        return file.getvalue(), "png"
    image.save(file, "JPEG", quality=degraded.quality)
    return file.getvalue(), "jpg"


def _shade(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Light from one side: a plane from about 0.7 to 1."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    plane = (np.cos(angle) * x + np.sin(angle) * y) / 2**0.5
    return (1 - rng.uniform(0.05, 0.3) * (plane + 1) / 2).astype(np.float32)


class _Turn:
    """A turn about the middle by some degrees, counterclockwise, at the same size."""

    def __init__(self, degrees: float, size: tuple[int, int]) -> None:
        self._degrees = degrees
        self._size = np.array(size, dtype=float)

    def picture(self, image: Image.Image) -> Image.Image:
        """What comes in from outside has the colour of the corner."""
        return image.rotate(self._degrees, Image.Resampling.BICUBIC, fillcolor=image.getpixel((1, 1)))

    def moved(self, sheet: Sheet) -> Sheet:
        """The sheet with its boxes turned; each becomes the box around its corners."""
        words = tuple(Word(word.text, self._box(word.box)) for word in sheet.words)
        return Sheet(sheet.pixels, words, {k: tuple(self._box(b) for b in v) for k, v in sheet.places.items()})

    def holds(self, boxes: Iterable[Box]) -> bool:
        """Whether all stay inside."""
        turned = np.array([self._box(box) for box in boxes])
        return bool((turned[:, :2] >= 0).all() and (turned[:, 2:] <= self._size).all())

    def _box(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) - self._size / 2  # 4, 2; y downwards
        sine, cosine = np.sin(np.deg2rad(self._degrees)), np.cos(np.deg2rad(self._degrees))
        turned = corners @ np.array([[cosine, -sine], [sine, cosine]]) + self._size / 2
        low, high = turned.min(0), turned.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _turn(sheet: Sheet, size: tuple[int, int], degrees: float) -> _Turn | None:
    """That turn, or half or a quarter of it where words would leave the picture; None where even that is too much."""
    boxes = [*(word.box for word in sheet.words), *(box for place in sheet.places.values() for box in place)]
    for share in (1.0, 0.5, 0.25):
        turn = _Turn(degrees * share, size)
        if turn.holds(boxes):
            return turn
    return None
