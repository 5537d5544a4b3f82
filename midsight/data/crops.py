"""Endless training pictures from few: crops of photographs, mixtures of them, and drawings pasted on crops or plain.

Sample number i depends on (seed, i) alone, so a run can stop and go on at any sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from midsight.data.packaged import Picture

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Mixture:
    """Shares and ranges of the training pictures; the defaults are those of the shipped model."""

    size: int = 224  # side of a sample, pixels
    drawings: float = 0.55  # share of samples that show a drawing; the rest are photographs and textures
    textures: float = 0.12  # of the others, share of textures
    large: float = 0.7  # share of photograph crops with a side of at least 30 % of the short side
    smallest: float = 0.08  # side of the smallest crop, of the short side
    paste: float = 0.3  # share of photograph crops into which a second crop is pasted
    on_photograph: float = 0.35  # share of drawings on a photograph crop; the others stand on a plain ground
    flags: float = 0.2  # how often a flag is kept when one is drawn by lot


@dataclass(frozen=True)
class Sample:
    """One training picture."""

    pixels: Pixels  # (size, size, 3)
    drawing: int  # index into the drawings, -1 for photographs and textures


class Pyramid:
    """A photograph at full, half, quarter ... size, so that a large crop costs as little as a small one."""

    def __init__(self, picture: Picture, smallest: int) -> None:
        with Image.open(picture.path) as opened:
            image = opened.convert("RGB")
        self.levels = [image]
        while min(image.size) >= 2 * smallest:
            image = image.reduce(2)
            self.levels.append(image)

    def crop(self, rng: np.random.Generator, side: float, size: int) -> Image.Image:
        """A square of about `side` (share of the short side), its aspect varied, resized to `size` pixels."""
        width, height = self.levels[0].size
        pixels, stretch = side * min(width, height), math.exp(rng.uniform(-0.25, 0.25))
        w, h = min(pixels * stretch, width), min(pixels / stretch, height)
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        level = int(np.clip(math.log2(max(min(w, h) / size, 1)), 0, len(self.levels) - 1))
        factor = 2**level
        image = self.levels[level]
        box = (
            left / factor,
            top / factor,
            min((left + w) / factor, image.width),
            min((top + h) / factor, image.height),
        )
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


class CropMixer:
    """Makes training pictures from the packaged photographs, textures and drawings.

    Args:
        photographs, textures: what backgrounds and photograph crops are cut from; both must hold something.
        drawings: captioned pictures with transparency, as paths that Pillow opens.
        mixture: shares and ranges.
        seed: with the number of a sample it decides everything about it.
    """

    def __init__(
        self,
        photographs: Sequence[Picture],
        textures: Sequence[Picture],
        drawings: Sequence[Picture],
        mixture: Mixture,
        seed: int,
    ) -> None:
        self.mixture, self.seed, self.drawings = mixture, seed, drawings
        self.photographs = [Pyramid(picture, mixture.size) for picture in photographs]
        areas = np.array([math.sqrt(p.levels[0].width * p.levels[0].height) for p in self.photographs])
        self.weights = areas / areas.sum()
        self.textures = [Pyramid(picture, mixture.size) for picture in textures]
        self.flags = _flags(drawings)

    def sample(self, number: int) -> Sample:
        """The training picture of that number."""
        rng = np.random.default_rng((self.seed, number))
        if rng.random() < self.mixture.drawings:
            index = _pick_drawing(rng, self.flags, self.mixture.flags)
            image = self._drawing(rng, index)
        else:
            index, image = -1, self._photograph(rng)
        if index < 0 and rng.random() < 0.5:  # drawings keep their hands: arrows, clocks and letters do not mirror
            image = ImageOps.mirror(image)
        return Sample(np.asarray(_recolour(rng, image), dtype=np.uint8), index)

    def _photograph(self, rng: np.random.Generator) -> Image.Image:
        mix = self.mixture
        if rng.random() < mix.textures:
            return self.textures[rng.integers(len(self.textures))].crop(rng, rng.uniform(0.3, 1), mix.size)
        image = self._crop(rng)
        if rng.random() < mix.paste:
            second, side = self._crop(rng), int(mix.size * rng.uniform(0.3, 0.8))
            left, top = rng.integers(0, mix.size - side + 1, size=2)
            image.paste(second.resize((side, side), Image.Resampling.BILINEAR), (int(left), int(top)))
        return image

    def _crop(self, rng: np.random.Generator) -> Image.Image:
        low, high = (0.3, 1.0) if rng.random() < self.mixture.large else (self.mixture.smallest, 0.3)
        side = math.exp(rng.uniform(math.log(low), math.log(high)))
        return self.photographs[rng.choice(len(self.photographs), p=self.weights)].crop(rng, side, self.mixture.size)

    def _drawing(self, rng: np.random.Generator, index: int) -> Image.Image:
        size = self.mixture.size
        ground = self._crop(rng) if rng.random() < self.mixture.on_photograph else _plain(rng, size)
        drawing = open_drawing(self.drawings[index])
        longest = size * rng.uniform(0.55, 1.0)
        scale = longest / max(drawing.size)
        turned = drawing.resize(
            (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))), Image.Resampling.BICUBIC
        ).rotate(rng.normal(0, 6), Image.Resampling.BILINEAR, expand=False)
        left = int(rng.integers(0, max(size - turned.width, 0) + 1))
        top = int(rng.integers(0, max(size - turned.height, 0) + 1))
        ground.paste(turned, (left, top), turned)
        return ground


def drawings_shown(drawings: Sequence[Picture], mixture: Mixture, seed: int, count: int) -> set[int]:
    """Which of the drawings the first `count` samples of a `CropMixer` show, without making the samples.

    Returns:
        Indices into `drawings`; no sample was made of the others.
    """
    flags, shown = _flags(drawings), set[int]()
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        if rng.random() < mixture.drawings:
            shown.add(_pick_drawing(rng, flags, mixture.flags))
    return shown


def _flags(drawings: Sequence[Picture]) -> NDArray[np.bool_]:
    return np.array([any("flag" in c.lower() for c in d.captions[:2]) for d in drawings], np.bool_)


def _pick_drawing(rng: np.random.Generator, flags: NDArray[np.bool_], kept: float) -> int:
    while True:
        index = int(rng.integers(len(flags)))
        if not flags[index] or rng.random() < kept:
            return index


def open_drawing(picture: Picture, largest: int = 1024) -> Image.Image:
    """The drawing with transparency, no side above `largest` pixels."""
    with Image.open(picture.path) as opened:
        opened.draft("RGB", (largest, largest))
        image = opened.convert("RGBA")
    image.thumbnail((largest, largest), Image.Resampling.BILINEAR)
    return image


def on_white(picture: Picture, size: int) -> Pixels:
    """The drawing in the middle of a white square, (size, size, 3), as it is shown on a page."""
    drawing = ImageOps.contain(open_drawing(picture), (size, size), Image.Resampling.BICUBIC)
    ground = Image.new("RGB", (size, size), "white")
    ground.paste(drawing, ((size - drawing.width) // 2, (size - drawing.height) // 2), drawing)
    return np.asarray(ground, dtype=np.uint8)


def _plain(rng: np.random.Generator, size: int) -> Image.Image:
    """White half of the time, else one colour or a gradient between two."""
    if rng.random() < 0.5:
        return Image.new("RGB", (size, size), "white")
    first, second = rng.uniform(0, 255, (2, 1, 1, 3))
    if rng.random() < 0.4:
        second = first
    ramp = np.linspace(0, 1, size)[:, None, None] * np.ones((1, size, 1))
    if rng.random() < 0.5:
        ramp = ramp.transpose(1, 0, 2)
    return Image.fromarray((first + (second - first) * ramp).astype(np.uint8))


def _recolour(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Brightness and saturation as the published recipe varies them (0.32), contrast and hue left alone."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.68, 1.32))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.68, 1.32))
