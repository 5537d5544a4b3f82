"""What `midsight segment` writes: label maps, overlays, and the classes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.api import Opened
from midsight.files import atomic_write
from midsight.images.labels import write_labels, write_numbers
from midsight.library.dense.drawn import clear_frames, drawn, drawn_name, frame_name, place
from midsight.library.dense.job import Add
from midsight.library.dense.plan import Item
from midsight.tasks.draw import class_colours, draw_classes
from midsight.video import TimedFrame

LABELS, OVERLAYS = "labels", "overlays"
Labels = npt.NDArray[np.uint16]


class SegmentResults:
    """labels/NAME.png, overlays/NAME.png or .mp4, classes.json; with `masks`, labels/NAME/000000.png for videos."""

    task = "segment"
    folders = (LABELS, OVERLAYS)

    def __init__(self, out: Path, opened: Opened[Labels], *, overlay: bool = True, masks: bool = False) -> None:
        self.out, self._names, self._overlay, self._masks = out, opened.names, overlay, masks
        self._colours = class_colours(len(self._names))

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"classes": list(self._names)}

    def files(self, item: Item) -> list[str]:
        """The main results of an input."""
        found = [drawn_name(OVERLAYS, item)] if self._overlay else []
        if item.kind == "picture":
            return [*found, f"{LABELS}/{item.name}.png"]
        return [*found, f"{LABELS}/{item.name}"] if self._masks else found

    @contextmanager
    def open(self, item: Item) -> Iterator[Add[Labels]]:
        """Takes the class maps of one input."""
        clear_frames(self.out, LABELS, item)
        with drawn(self.out, OVERLAYS, item, self._overlay) as draw:

            def add(frame: TimedFrame, labels: Labels) -> None:
                if item.kind == "picture":
                    self._write(f"{LABELS}/{item.name}.png", labels)
                elif self._masks:
                    self._write(frame_name(LABELS, item, frame), labels)
                draw(frame, lambda: draw_classes(frame.pixels, labels, self._names))

            yield add

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes classes.json: id, name and colour of each class."""
        classes = [
            {"id": label, "name": name, "rgb": colour.tolist()}
            for label, (name, colour) in enumerate(zip(self._names, self._colours, strict=True))
        ]
        with atomic_write(self.out / "classes.json") as file:
            file.write(json.dumps(classes, indent=1).encode())

    def _write(self, name: str, labels: Labels) -> None:
        path = place(self.out, name)
        if len(self._names) <= 256:
            write_labels(path, labels, self._colours)
        else:  # more than a palette has
            write_numbers(path, labels)
