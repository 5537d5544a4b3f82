"""What `midsight perceive` writes: a picture of four panels, or a video of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.library.dense.drawn import drawn, drawn_name
from midsight.library.dense.job import Add
from midsight.library.dense.plan import Item
from midsight.tasks.draw import draw_classes, draw_depth, draw_detections
from midsight.tasks.perceive import Perceived
from midsight.video import TimedFrame

PANELS = "panels"
LONGEST = 640  # pixels of the longer side of a panel

Pixels = npt.NDArray[np.uint8]


class PerceiveResults:
    """panels/NAME.png, or .mp4 for videos: the frame, objects, classes and depth."""

    task = "perceive"
    folders = (PANELS,)

    def __init__(
        self, out: Path, names: Sequence[str], classes: Sequence[str], farthest: float, threshold: float
    ) -> None:
        """
        Args:
            names: of the detector's labels.
            classes: of the class maps.
            farthest: metres that have the last colour, so that all frames are coloured alike.
            threshold: least score of what is drawn.
        """
        self.out, self._names, self._classes = out, tuple(names), tuple(classes)
        self._farthest, self._threshold = farthest, threshold

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"threshold": self._threshold}

    def files(self, item: Item) -> list[str]:
        """The main results of an input."""
        return [drawn_name(PANELS, item)]

    @contextmanager
    def open(self, item: Item) -> Iterator[Add[Perceived]]:
        """Takes what is known of the frames of one input."""
        with drawn(self.out, PANELS, item) as draw:
            yield lambda frame, found: draw(frame, lambda: self.panels(frame, found))

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Nothing belongs to all inputs together."""

    def panels(self, frame: TimedFrame, found: Perceived) -> Pixels:
        """The frame and the objects above the classes and the depth, uint8 (2h, 2w, 3)."""
        keep = found.detections["scores"] >= self._threshold
        objects = {key: value[keep].cpu() for key, value in found.detections.items()}
        drawn = (
            frame.pixels,
            draw_detections(frame.pixels, objects, self._names),
            draw_classes(frame.pixels, found.classes, self._classes),
            draw_depth(found.metres, (0.0, self._farthest)),
        )
        first, second, third, fourth = (_scaled(one) for one in drawn)
        return np.concatenate([np.concatenate([first, second], 1), np.concatenate([third, fourth], 1)])


def _scaled(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
