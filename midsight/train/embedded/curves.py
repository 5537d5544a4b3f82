"""Losses of the stages, kept as JSON lines while they are trained, and drawn for the card."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from midsight.files import atomic_write

Report = Callable[[Mapping[str, float]], None]  # called with "step" and the losses at it
_WIDTH, _HEIGHT, _LEFT, _TOP, _EDGE, _FINE = 380, 260, 56, 34, 16, 3  # pixels of a panel; drawn larger, then reduced
_COLOURS = ("#4477aa", "#ee6677", "#228833")


def recorder(path: Path) -> Report:
    """Appends each record to a file; what it held at or behind the first one's step is of another run, and goes."""
    begun = False

    def report(record: Mapping[str, float]) -> None:
        nonlocal begun
        if not begun:
            earlier = [old for old in _read(path) if old["step"] < record["step"]] if path.exists() else []
            path.write_text("".join(json.dumps(old) + "\n" for old in earlier))
            begun = True
        with path.open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")

    return report


def draw(path: Path, stages: Mapping[str, Path]) -> None:
    """One panel for each stage, side by side as a PNG: its losses over its steps, on a logarithmic axis.

    Args:
        stages: title -> file of a `recorder`; those that are not there are left out.
    """
    panels = {title: _read(file) for title, file in stages.items() if file.exists()}
    image = Image.new("RGB", (_FINE * _WIDTH * max(len(panels), 1), _FINE * _HEIGHT), "white")
    for number, (title, records) in enumerate(panels.items()):
        _panel(ImageDraw.Draw(image), _FINE * _WIDTH * number, title, records)
    small = image.resize((image.width // _FINE, image.height // _FINE), Image.Resampling.LANCZOS)
    with atomic_write(path) as file:
        small.save(file, "PNG", optimize=True)


def _read(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _panel(canvas: ImageDraw.ImageDraw, x: int, title: str, records: Sequence[Mapping[str, float]]) -> None:
    font = ImageFont.load_default(11 * _FINE)
    names = [name for name in records[0] if name != "step"]
    values = [record[name] for record in records for name in names if record[name] > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    last = records[-1]["step"] or 1
    left, right = x + _LEFT * _FINE, x + (_WIDTH - _EDGE) * _FINE
    top, floor = _TOP * _FINE, (_HEIGHT - 2 * _EDGE) * _FINE
    canvas.text((left, 8 * _FINE), title, "#222222", font)
    for power in range(low, high + 1):
        y = floor - (floor - top) * (power - low) / max(high - low, 1)
        canvas.line((left, y, right, y), "#dddddd", _FINE)
        canvas.text((left - 6 * _FINE, y), f"{10.0**power:g}", "#777777", font, anchor="rm")
    canvas.text((right, floor + 6 * _FINE), f"step {last:g}", "#777777", font, anchor="ra")
    named = float(left)
    for number, name in enumerate(names):
        points = [
            (
                left + (right - left) * record["step"] / last,
                floor - (floor - top) * (math.log10(max(record[name], 10.0**low)) - low) / max(high - low, 1),
            )
            for record in records
        ]
        canvas.line(points, _COLOURS[number % len(_COLOURS)], 2 * _FINE, joint="curve")
        canvas.text((named, floor + 6 * _FINE), name, _COLOURS[number % len(_COLOURS)], font)
        named += canvas.textlength(name, font) + 12 * _FINE
