"""What `midsight detect` writes: overlays, and all detections in the formats of other programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from midsight.api import Opened
from midsight.errors import InputError
from midsight.files import atomic_write
from midsight.library.dense import exports
from midsight.library.dense.drawn import clear_frames, drawn, drawn_name, frame_name, place
from midsight.library.dense.job import Add
from midsight.library.dense.plan import Item
from midsight.library.dense.state import FOLDER
from midsight.tasks.draw import draw_detections
from midsight.video import TimedFrame

FORMATS = ("coco", "yolo", "label-studio")
OVERLAYS, LABELS, IMAGES = "overlays", exports.LABELS, exports.IMAGES
_JPEG_QUALITY = 95
Found = dict[str, Tensor]


class DetectResults:
    """overlays/NAME.png or .mp4 and detections.json, which is COCO's format; YOLO's and Label Studio's as asked for.

    Those two need pictures to lie beside: where they are asked for, the frames of videos are kept as
    images/NAME/000000.jpg.
    """

    task = "detect"

    def __init__(
        self, out: Path, opened: Opened[Found], *, overlay: bool = True, formats: Sequence[str] = ("coco",)
    ) -> None:
        """
        Raises:
            InputError: a format that is not known.
        """
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise InputError(f"there is no format {unknown[0]!r}; known are {', '.join(FORMATS)}")
        self.out, self._overlay, self._formats = out, overlay, tuple(formats)
        self._names, self._ids = opened.names, opened.category_ids
        self._keeps_frames = any(name != "coco" for name in formats)

    @property
    def folders(self) -> tuple[str, ...]:
        yolo = (LABELS,) if "yolo" in self._formats else ()
        return (OVERLAYS, *yolo, *((IMAGES,) if self._keeps_frames else ()))

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"categories": dict(zip(map(str, self._ids), self._names, strict=True))}

    def files(self, item: Item) -> list[str]:
        """The main results of an input."""
        frames = [f"{IMAGES}/{item.name}"] if self._keeps_frames and item.kind != "picture" else []
        return [_kept(item.name), *frames, *([drawn_name(OVERLAYS, item)] if self._overlay else [])]

    @contextmanager
    def open(self, item: Item) -> Iterator[Add[Found]]:
        """Takes the detections of one input."""
        if self._keeps_frames:
            clear_frames(self.out, IMAGES, item)
        with (
            drawn(self.out, OVERLAYS, item, self._overlay) as draw,
            atomic_write(place(self.out, _kept(item.name))) as kept,
        ):

            def add(frame: TimedFrame, found: Found) -> None:
                entry = exports.entry_of(item, frame, found, self._ids)
                kept.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
                if self._keeps_frames and item.kind != "picture":
                    path = place(self.out, frame_name(IMAGES, item, frame, ".jpg"))
                    with atomic_write(path) as file:
                        Image.fromarray(frame.pixels).save(file, "jpeg", quality=_JPEG_QUALITY)
                draw(frame, lambda: draw_detections(frame.pixels, found, self._names))

            yield add

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes detections.json and the other formats, of all that is finished."""
        found = exports.Collected([self.out / _kept(record["name"]) for record in records], self._names, self._ids)
        exports.write_coco(self.out / "detections.json", found)
        if "yolo" in self._formats:
            exports.write_yolo(self.out, found)
        if "label-studio" in self._formats:
            exports.write_label_studio(self.out, found)


def _kept(name: str) -> str:
    """Where the detections of one input lie, a line of JSON for each frame."""
    return f"{FOLDER}/detections/{name}.jsonl"
