"""Rows of training files with their media: what a PerceptionLM learns from, ready for the model.

A row, as the published training files have it: `image` (a path, or a list of them) or `video` or neither, with
`conversations` or `text`; `bbox` with `width` and `height` for boxes in texts; `start_time` and `end_time` in seconds,
and `bbox_map`, {frame: [x, y, width, height]} in pixels, for a region of a video that is shown by a red box. That its
numbers are those of `bbox` is our reading; nothing is published of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from midsight.data.conversations import Drawn
from midsight.data.samples import BadSample
from midsight.errors import InputError, MediaError, MidsightError
from midsight.images import Limits
from midsight.plm.boxes import Box
from midsight.plm.chat import encode, read_messages
from midsight.plm.config import PLMConfig
from midsight.plm.media import MediaLimits, Medium, open_media
from midsight.plm.tokenizer import TextCodec
from midsight.video import VIDEO_SUFFIXES

Style = Literal["plm_sft", "warmup"]
LIMITS = MediaLimits(images=Limits(max_pixels=50_000_000))


@dataclass(frozen=True)
class LearntRow:
    """One row as ids, labels and pixels."""

    key: str
    input_ids: Tensor  # int64 (N,)
    labels: Tensor  # int64 (N,), -100 where nothing is learnt; not shifted
    tiles: Tensor | None  # float32 (M, 3, S, S), all tiles and frames of all media in order


@dataclass(frozen=True)
class RowReader:
    """Reads rows for a model.

    Args:
        config: of the model: tiles, frames, tokens of each.
        tokenizer: of its language model, with an image token.
        max_length: tokens; every row is shorter.
        style: see `midsight.plm.chat.encode`.
        limits: what media may cost.
    """

    config: PLMConfig
    tokenizer: TextCodec
    max_length: int
    style: Style = "plm_sft"
    limits: MediaLimits = LIMITS

    def __call__(self, drawn: Drawn) -> LearntRow:
        """The row of a `RowStream`, in a worker."""
        key, record = drawn.read()
        return self.read(key, record, drawn.file.root)

    def read(self, key: str, record: Mapping[str, Any], root: Path) -> LearntRow:
        """A row with its media opened.

        Raises:
            BadSample: it is malformed, a medium is missing or broken or beyond the limits, or its first question and
                answer do not fit.
        """
        media = self._media(key, record, root)
        counts = [len(medium.pixels) * self.config.tokens_per_tile for medium in media]
        try:
            read_messages(record, counts)
        except (InputError, TypeError, ValueError) as error:
            raise BadSample("malformed row", f"{key}: {error}") from error
        try:
            sample = encode(record, self.tokenizer, counts, self.max_length, self.style)
        except InputError as error:
            raise BadSample("does not fit", f"{key}: {error}") from error
        ids = torch.tensor(sample["input_ids"])
        tiles = torch.cat([medium.pixels for medium in media]) if media else None
        return LearntRow(key, ids, torch.tensor(sample["labels"]), tiles)

    def _media(self, key: str, record: Mapping[str, Any], root: Path) -> list[Medium]:
        try:
            paths = [root / name for name in media_names(record)]
            boxes = frame_boxes(record)
            limits = replace(self.limits, start=_seconds(record, "start_time"), end=_seconds(record, "end_time"))
        except InputError as error:
            raise BadSample("malformed row", f"{key}: {error}") from error
        for path in paths:
            if not path.is_file():
                raise BadSample("missing media", f"{key}: {path}: there is no such file.")
        try:
            return open_media(paths, self.config, limits, boxes)
        except MediaError as error:
            reason = "beyond the limits" if "Limits" in str(error) else "unreadable media"
            raise BadSample(reason, f"{key}: {error}") from error
        except MidsightError as error:  # a part of a video that is not there
            raise BadSample("malformed row", f"{key}: {error}") from error


def media_names(record: Mapping[str, Any]) -> list[str]:
    """Paths of a row's media, as they stand there; none for text alone.

    Raises:
        InputError: picture and video in one row, a path that is no text, or a video that does not end like one.
    """
    image, video = record.get("image"), record.get("video")
    if image and video:
        raise InputError("the row has both an image and a video")
    found = image if isinstance(image, list) else [image or video]
    names = [name for name in found if name is not None and name != ""]
    if not all(isinstance(name, str) and "\0" not in name for name in names):
        raise InputError(f"image and video must be paths, got {image or video!r}")
    if video and Path(str(video)).suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"video {video!r} ends like no video; expected one of {', '.join(sorted(VIDEO_SUFFIXES))}")
    return names


def frame_boxes(record: Mapping[str, Any]) -> dict[int, Box]:
    """`bbox_map` of a row: frame to left, top, right, bottom in pixels.

    Raises:
        InputError: it is no object of frame numbers with four numbers each.
    """
    given = record.get("bbox_map") or {}
    try:
        boxes = {int(frame): [float(value) for value in box] for frame, box in given.items()}
        return {frame: (x, y, x + width, y + height) for frame, (x, y, width, height) in boxes.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError("bbox_map must be {frame: [x, y, width, height]}, pixels") from error


def _seconds(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise InputError(f"{name} must be seconds, got {value!r}")


def tiles_of(rows: Sequence[LearntRow]) -> Tensor | None:
    """All tiles of rows in order, (M, 3, S, S); None where there is not one."""
    found = [row.tiles for row in rows if row.tiles is not None]
    return torch.cat(found) if found else None
