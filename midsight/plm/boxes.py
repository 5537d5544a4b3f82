"""Boxes in text: `[x0,y0,x1,y1]`, three digits each, thousandths of the picture's sides.

Source: published region transform of PerceptionLM; PE paper, B.2 (000 to 999, top left and bottom right).
"""

import re
from collections.abc import Sequence

from midsight.errors import InputError

Box = tuple[float, float, float, float]

_TEXT = re.compile(r"\[(\d{3}),(\d{3}),(\d{3}),(\d{3})\]")
_TAG = re.compile(r"<\|bbox(\d+)\|>")


def format_box(xyxy: Sequence[float], width: float, height: float) -> str:
    """A box in pixels as text, clamped to the picture, rounded down.

    Args:
        xyxy: left, top, right, bottom, pixels.
        width, height: of the picture, pixels.

    Raises:
        InputError: not four numbers, or a picture without an area.
    """
    if len(xyxy) != 4 or min(width, height) <= 0:
        raise InputError(
            f"expected a box of four numbers in a picture of some width and height, got {list(xyxy)} "
            f"in {width} x {height}"
        )
    sides = width, height, width, height
    shares = (min(max(value / side, 0.0), 0.999) for value, side in zip(xyxy, sides, strict=True))
    return "[" + ",".join(f"{int(share * 1000):03d}" for share in shares) + "]"


def parse_boxes(text: str, width: float, height: float) -> list[Box]:
    """The boxes in a text, in its order, in pixels; each number stands for the middle of its thousandth.

    Whatever is not such a box is passed over, and so is one without an area in the right order.
    """
    found = []
    for match in _TEXT.finditer(text):
        x0, y0, x1, y1 = ((int(digits) + 0.5) / 1000 for digits in match.groups())
        if x0 <= x1 and y0 <= y1:
            found.append((x0 * width, y0 * height, x1 * width, y1 * height))
    return found


def fill_tags(text: str, boxes: Sequence[Sequence[float]], width: float, height: float) -> str:
    """`<|bboxN|>` replaced by the N-th box.

    Args:
        boxes: x, y, width, height in pixels each, as training rows have them.

    Raises:
        InputError: a tag beyond the list.
    """

    def box(match: re.Match[str]) -> str:
        index = int(match.group(1))
        if index >= len(boxes):
            raise InputError(f"{match.group()} names box {index}, but the row has {len(boxes)}")
        x, y, w, h = boxes[index]
        return format_box((x, y, x + w, y + h), width, height)

    return _TAG.sub(box, text)
