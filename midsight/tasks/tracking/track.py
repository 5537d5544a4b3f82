"""Frames with the labels of the first one in, labels of every frame out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from midsight.errors import ConfigError, InputError, MediaError, MidsightError, ShapeError
from midsight.files import StrPath
from midsight.images import IMAGE_SUFFIXES, Pixels, describe, load_image
from midsight.images.labels import read_numbers
from midsight.tasks.features import DenseEncoder, fitting
from midsight.tasks.tracking.labels import Labels, grid_mask, label_map
from midsight.tasks.tracking.predict import PropagationConfig, propagate_stream
from midsight.video import VIDEO_SUFFIXES, iter_frames


@dataclass(frozen=True)
class TrackingConfig:
    """The size at which frames are encoded, and how labels are carried on."""

    short_side: int | None = None  # pixels that the shorter side is scaled to
    long_multiple: int = 1  # with it: the longer side is cut down to a multiple of this
    long_side: int | None = None  # else: the native size, scaled down to at most so many pixels on the longer side
    propagation: PropagationConfig = field(default_factory=PropagationConfig)

    def __post_init__(self) -> None:
        if (self.short_side is None) == (self.long_side is None):
            raise ConfigError(
                f"exactly one of short_side and long_side decides the size, got {self.short_side} and {self.long_side}"
            )
        if min(side for side in (self.short_side, self.long_side, self.long_multiple) if side is not None) < 1:
            raise ConfigError(f"sizes must be at least 1 pixel, got {self}")

    def size(self, height: int, width: int, patch_size: int) -> tuple[int, int]:
        """(height, width) of the encoder's input for a frame: multiples of the patch size."""
        if self.short_side is None:
            scale = min(1.0, (self.long_side or 0) / max(height, width))
            return fitting(height * scale, patch_size), fitting(width * scale, patch_size)
        longer = self.short_side * max(height, width) // min(height, width)
        longer = max(longer // self.long_multiple * self.long_multiple, self.short_side)
        sides = (self.short_side, longer) if height <= width else (longer, self.short_side)
        return fitting(sides[0], patch_size), fitting(sides[1], patch_size)


DINO = TrackingConfig(short_side=480, long_multiple=64)
"""DINO's evaluation on DAVIS: 480 pixels, the longer side cut to a multiple of 64; 7 frames, radius 12, top 5, 0.1."""

PE = TrackingConfig(long_side=448)
"""PE paper, B.3.3: native resolution up to 448, 7 frames; radius, top-k and temperature are not published: DINO's."""

CONFIGS = {"dino": DINO, "pe": PE}


@dataclass(frozen=True)
class Tracked:
    """One frame: its labels, or why there are none."""

    index: int  # from 0
    labels: Labels | None  # uint8 (H, W)
    error: MidsightError | None = None

    def unwrap(self) -> Labels:
        """The labels.

        Raises:
            MidsightError: the frame could not be read.
        """
        if self.labels is None:
            raise self.error or MidsightError(f"frame {self.index} has neither labels nor an error")
        return self.labels


def track(
    frames: Any, first_labels: StrPath | npt.NDArray[Any], encoder: DenseEncoder, config: TrackingConfig = PE
) -> Iterator[Tracked]:
    """Labels of every frame of a video, from those of its first frame; memory does not grow with its length.

    A frame that cannot be read, or is of another size, is a failure in its place; those behind it are tracked from the
    good ones before it.

    Args:
        frames: a video file, a folder of pictures (by name), an array uint8 (T, H, W, 3), or an iterable of pictures.
        first_labels: of the first frame: an indexed or grey PNG, or integers (H, W); 0 is the background, 255 void.
        encoder: reads features; the last of its layers counts.

    Yields:
        For each frame its labels uint8 (H, W), among those of the first frame. The first one comes back as it was
        given, with void as background.

    Raises:
        InputError: no frames, no object in the first frame, or labels of another size than the frame.
        MediaError: the labels or the first frame cannot be read, or the video cannot be opened.

    Warns:
        MediaWarning: the video is cut or broken; labels end where its frames do.
    """
    name = describe(first_labels)
    labels = first_labels if isinstance(first_labels, np.ndarray) else read_numbers(first_labels)
    labels = _checked(labels, name)
    size = config.size(labels.shape[0], labels.shape[1], encoder.patch_size)
    mask, names = grid_mask(labels, size[0] // encoder.patch_size, size[1] // encoder.patch_size, name)
    return _tracked(open_frames(frames), labels, mask.to(encoder.device), names, encoder, config)


def _tracked(
    frames: Iterator[Pixels | MidsightError],
    labels: Labels,
    mask: Tensor,
    names: list[int],
    encoder: DenseEncoder,
    config: TrackingConfig,
) -> Iterator[Tracked]:
    outer = labels.shape[0], labels.shape[1]
    size = config.size(*outer, encoder.patch_size)
    waiting: list[Tracked] = []  # failures since the last good frame, then the good one's number

    def maps() -> Iterator[Tensor]:
        for index, frame in enumerate(frames):
            error = frame if isinstance(frame, MidsightError) else _other_size(frame, labels, index)
            if error is not None and index == 0:
                raise error
            waiting.append(Tracked(index, None, error))
            if error is None and not isinstance(frame, MidsightError):
                yield encoder(encoder.images(frame, *size)[None])[-1][0]

    for found in propagate_stream(maps(), mask, config.propagation):
        *failures, good = waiting
        waiting.clear()
        yield from failures
        yield Tracked(good.index, label_map(found, names, size, outer) if good.index else labels)
    yield from waiting


def _other_size(frame: Pixels, labels: Labels, index: int) -> MidsightError | None:
    if frame.shape[:2] == labels.shape:
        return None
    sizes = f"{frame.shape[1]}x{frame.shape[0]} pixels, the first frame's labels {labels.shape[1]}x{labels.shape[0]}"
    if index == 0:
        return InputError(f"the first frame has {sizes}. Expected labels of the frame's own size.")
    return MediaError(f"frame {index}: has {sizes}. Expected frames of one size.")


def _checked(labels: npt.NDArray[Any], name: str) -> Labels:
    """The labels as uint8 without void."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise ShapeError(f"{name}: expected integer labels (H, W), got {labels.dtype} {labels.shape}")
    if int(labels.min()) < 0 or int(labels.max()) > 255:
        raise InputError(f"{name}: labels from {labels.min()} to {labels.max()}; expected 0 to 254, or 255 for void")
    return np.where(labels == 255, 0, labels).astype(np.uint8)


def open_frames(frames: Any) -> Iterator[Pixels | MidsightError]:
    """Frames of any of the kinds that `track` takes: pixels uint8 (H, W, 3), or the error in place of a picture.

    Raises:
        InputError: no frames at all.
        MediaError: a video that cannot be opened.
    """
    if isinstance(frames, str | os.PathLike):
        path = Path(frames)
        if not path.is_dir():
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                raise InputError(f"{path}: neither a folder of frames nor a video file (.mp4 and the like)")
            return iter_frames(path)
        frames = pictures_in(path)
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise InputError("there are no frames to track in")
    return _read([first], pictures)


def _read(*sources: Iterable[Any]) -> Iterator[Pixels | MidsightError]:
    for pictures in sources:
        for picture in pictures:
            try:
                yield load_image(picture)
            except MidsightError as error:
                yield error


def pictures_in(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name.

    Raises:
        InputError: there is none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: no pictures in this folder; expected the frames of a video")
    return found
