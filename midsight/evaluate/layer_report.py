"""A sweep as files: report.json, and layers.png with the score of every layer and its interval."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from midsight.errors import OutputError
from midsight.evaluate.layer_types import Sweep
from midsight.files import atomic_write

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 400, 70, 50, 20, 44  # pixels
_FINE = 3  # drawn so many times larger, then reduced
_BLUE, _PALE, _RED, _GREY, _LINE = "#2f6db5", "#cfe0f3", "#c8452f", "#666666", "#dddddd"
_MOST_LABELS = 12


def write_report(folder: Path, sweep: Sweep, more: Mapping[str, Any] | None = None) -> list[Path]:
    """Writes both files; the folder is made.

    Args:
        more: entries beside those of `Sweep.record`.

    Raises:
        OutputError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error}). Name another folder.") from error
    record, plot = folder / "report.json", folder / "layers.png"
    with atomic_write(record) as file:
        file.write(json.dumps(sweep.record() | dict(more or {}), indent=2, allow_nan=False).encode() + b"\n")
    buffer = io.BytesIO()
    picture(sweep).save(buffer, "png", optimize=True)
    with atomic_write(plot) as file:
        file.write(buffer.getbuffer())
    return [record, plot]


def picture(sweep: Sweep) -> Image.Image:
    """The scores over the layers, with the interval as a band and the best layer marked, RGB 720 x 400."""
    image = Image.new("RGB", (_FINE * _WIDTH, _FINE * _HEIGHT), "white")
    axes = _Axes(sweep)
    canvas = ImageDraw.Draw(image)
    axes.draw_grid(canvas)
    rows = sweep.figures
    upper = [axes.point(row.layer_idx, row.high) for row in rows]
    lower = [axes.point(row.layer_idx, row.low) for row in reversed(rows)]
    if len(rows) > 1:
        canvas.polygon(upper + lower, fill=_PALE)
    axes.draw_best(canvas, sweep)
    points = [axes.point(row.layer_idx, row.value) for row in rows]
    canvas.line(points, _BLUE, 2 * _FINE, joint="curve")
    for row, (x, y) in zip(rows, points, strict=True):
        reach = (5 if row is sweep.best else 3) * _FINE
        canvas.ellipse((x - reach, y - reach, x + reach, y + reach), _RED if row is sweep.best else _BLUE)
    return image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


class _Axes:
    """Where a layer and a score lie on the page."""

    def __init__(self, sweep: Sweep) -> None:
        self.layers = [row.layer_idx for row in sweep.figures]
        self.low, self.high = min(row.low for row in sweep.figures), max(row.high for row in sweep.figures)
        margin = 0.05 * (self.high - self.low) or 0.05
        self.low, self.high = self.low - margin, self.high + margin
        self.title = f"{sweep.model}: {sweep.task}, {sweep.metric}{'' if sweep.higher else ' (less is better)'}"
        self.font = ImageFont.load_default(12 * _FINE)

    def point(self, layer: int, value: float) -> tuple[float, float]:
        span = self.layers[-1] - self.layers[0]
        across = (layer - self.layers[0]) / span if span else 0.5
        up = (value - self.low) / (self.high - self.low)
        return (
            _FINE * (_LEFT + across * (_WIDTH - _LEFT - _RIGHT - 20) + 10),
            _FINE * (_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)),
        )

    def draw_grid(self, canvas: ImageDraw.ImageDraw) -> None:
        """Title, lines of round values and the numbers of layers."""
        canvas.text((_FINE * _LEFT, _FINE * 10), self.title, "#222222", ImageFont.load_default(14 * _FINE))
        for value in _round_values(self.low, self.high):
            y = self.point(self.layers[0], value)[1]
            canvas.line((_FINE * _LEFT, y, _FINE * (_WIDTH - _RIGHT), y), _LINE, _FINE)
            canvas.text((_FINE * (_LEFT - 8), y), f"{value:g}", _GREY, self.font, anchor="rm")
        every = -(-len(self.layers) // _MOST_LABELS)
        for layer in self.layers[::every]:
            x = self.point(layer, self.low)[0]
            canvas.text((x, _FINE * (_HEIGHT - _BOTTOM + 6)), str(layer + 1), _GREY, self.font, anchor="ma")
        middle = _FINE * (_LEFT + _WIDTH - _RIGHT) / 2
        canvas.text((middle, _FINE * (_HEIGHT - 20)), "layer, counted from 1", _GREY, self.font, anchor="ma")

    def draw_best(self, canvas: ImageDraw.ImageDraw, sweep: Sweep) -> None:
        x = self.point(sweep.best.layer_idx, self.low)[0]
        canvas.line((x, _FINE * _TOP, x, _FINE * (_HEIGHT - _BOTTOM)), _RED, _FINE)
        canvas.text((_FINE * _LEFT, _FINE * 30), f"best: {sweep.name(sweep.best.layer_idx)}", _RED, self.font)


def _round_values(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [float(round(k * step, 10)) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
