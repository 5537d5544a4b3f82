"""Plots of the ablation, drawn with Pillow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from midsight.files import atomic_write

FINE = 3  # drawn so many times larger, then reduced: smooth lines
INK, GREY, LIGHT = "#222222", "#777777", "#dddddd"
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#884400", "#000000")
MARGIN = (58, 34, 14, 76)  # left, top, right, bottom of a panel, pixels


@dataclass(frozen=True)
class Point:
    """A value with its interval, and the values that it is the mean of."""

    value: float
    low: float | None = None
    high: float | None = None
    each: tuple[float, ...] = ()


@dataclass
class Panel:
    """One pair of axes. Along x are places 0, 1, 2, ... with labels."""

    title: str
    labels: Sequence[str]
    unit: str
    lines: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    bars: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    note: str = ""  # below the names
    zero: bool = False  # the axis holds 0

    def span(self) -> tuple[float, float]:
        """Lowest and highest value to show, with some room."""
        points = [point for series in (*self.lines.values(), *self.bars.values()) for point in series]
        ends = [v for p in points for v in (p.value, p.low, p.high, *p.each) if v is not None]
        ends += [0.0] if self.zero or self.bars else []
        low, high = min(ends), max(ends)
        room = 0.08 * (high - low) or 1.0
        return low - room * (low < 0 or not (self.zero or self.bars)), high + room


def save(path: Path, panels: Sequence[Panel], width: int = 520, height: int = 340) -> None:
    """Panels side by side as a PNG, `width` x `height` pixels each."""
    image = Image.new("RGB", (FINE * width * len(panels), FINE * height), "white")
    for number, panel in enumerate(panels):
        _draw(panel, ImageDraw.Draw(image), FINE * width * number, FINE * width, FINE * height)
    small = image.resize((width * len(panels), height), Image.Resampling.LANCZOS)
    with atomic_write(path) as file:
        small.save(file, "PNG", optimize=True)


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """At most so many round numbers from one value to another."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * k for k in (1, 2, 5, 10) if (high - low) / (power * k) <= most - 1)
    first = math.ceil(low / step)
    return [round(k * step, 9) for k in range(first, math.floor(high / step) + 1)]


def _draw(panel: Panel, draw: ImageDraw.ImageDraw, left: int, width: int, height: int) -> None:
    margins = [FINE * m for m in MARGIN]
    box = (left + margins[0], margins[1], left + width - margins[2], height - margins[3])
    low, high = panel.span()
    slot = (box[2] - box[0]) / len(panel.labels)

    def x(place: float) -> float:
        return box[0] + slot * (place + 0.5)

    def y(value: float) -> float:
        return box[3] - (value - low) / (high - low) * (box[3] - box[1])

    draw.text(
        (left + width / 2, FINE * 6), ", ".join(filter(None, (panel.title, panel.unit))), INK, _font(14), anchor="ma"
    )
    for value in ticks(low, high):
        draw.line((box[0], y(value), box[2], y(value)), GREY if value == 0 else LIGHT, FINE)
        draw.text((box[0] - FINE * 5, y(value)), f"{value:g}", GREY, _font(11), anchor="rm")
    for place, label in enumerate(panel.labels):
        draw.text((x(place), box[3] + FINE * 5), label, GREY, _font(11), anchor="ma")
    names = _bars(panel, draw, slot, x, y) + _lines(panel, draw, len(panel.bars), x, y)
    end = _legend(draw, names, box[0], height - FINE * 50, width - margins[0])
    draw.text((box[0], end + FINE * 5), panel.note, GREY, _font(11), anchor="lm")


def _bars(
    panel: Panel, draw: ImageDraw.ImageDraw, slot: float, x: Callable[[float], float], y: Callable[[float], float]
) -> list[tuple[str, str]]:
    part = 0.8 / max(1, len(panel.bars))
    names = []
    for number, (name, points) in enumerate(panel.bars.items()):
        colour = COLOURS[number % len(COLOURS)]
        names.append((name, colour))
        for place, point in enumerate(points):
            middle = x(place + (number - (len(panel.bars) - 1) / 2) * part)
            top, bottom = sorted((y(point.value), y(0)))
            draw.rectangle((middle - 0.45 * part * slot, top, middle + 0.45 * part * slot, bottom), colour)
            _interval(draw, point, middle, y, INK)
            _dots(draw, point, middle, y, INK)
    return names


def _lines(
    panel: Panel, draw: ImageDraw.ImageDraw, used: int, x: Callable[[float], float], y: Callable[[float], float]
) -> list[tuple[str, str]]:
    names = []
    for number, (name, points) in enumerate(panel.lines.items(), start=used):
        colour = COLOURS[number % len(COLOURS)]
        names.append((name, colour))
        places = [(x(place), y(point.value)) for place, point in enumerate(points)]
        draw.line(places, colour, 2 * FINE, joint="curve")
        for (across, down), point in zip(places, points, strict=True):
            _interval(draw, point, across, y, colour)
            _dots(draw, point, across, y, colour)
            radius = 3 * FINE
            draw.ellipse((across - radius, down - radius, across + radius, down + radius), colour)
    return names


def _interval(draw: ImageDraw.ImageDraw, point: Point, middle: float, y: Callable[[float], float], colour: str) -> None:
    if point.low is None or point.high is None:
        return
    draw.line((middle, y(point.low), middle, y(point.high)), colour, FINE + 1)
    for end in (point.low, point.high):
        draw.line((middle - 3 * FINE, y(end), middle + 3 * FINE, y(end)), colour, FINE + 1)


def _dots(draw: ImageDraw.ImageDraw, point: Point, middle: float, y: Callable[[float], float], colour: str) -> None:
    """The single values; one alone is the value itself."""
    radius = 2.2 * FINE
    for value in point.each if len(point.each) > 1 else ():
        place = (middle - radius, y(value) - radius, middle + radius, y(value) + radius)
        draw.ellipse(place, "white", colour, FINE)


def _legend(
    draw: ImageDraw.ImageDraw, names: Sequence[tuple[str, str]], left: float, top: float, width: float
) -> float:
    """Draws the names in rows; where the next row would begin."""
    across, down = left, top
    for name, colour in names:
        wide = draw.textlength(name, _font(11)) + 26 * FINE
        if across + wide > left + width:
            across, down = left, down + 15 * FINE
        draw.rectangle((across, down, across + 10 * FINE, down + 10 * FINE), colour)
        draw.text((across + 14 * FINE, down + 5 * FINE), name, INK, _font(11), anchor="lm")
        across += wide
    return down + 15 * FINE


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * FINE)
