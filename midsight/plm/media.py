"""Pictures and videos to the tiles and frames that a PLM reads."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import InputError
from midsight.images import DEFAULT_LIMITS, Limits, Pixels, load_image
from midsight.plm.boxes import Box
from midsight.plm.config import PLMConfig
from midsight.transforms.image import from_config, resize_pixels
from midsight.transforms.tiling import tile_pixels
from midsight.video import VIDEO_SUFFIXES, VideoLimits, sample_seconds

BOX_COLOUR, BOX_LINE = "red", 4  # of the box that a question about a region of a video means, pixels; published


@dataclass(frozen=True)
class Medium:
    """One picture or video as the tower reads it."""

    pixels: Tensor  # float32 (n, 3, S, S) in [-1, 1]: thumbnail and tiles, or frames
    size: tuple[int, int]  # width and height of the source, pixels
    is_video: bool = False


@dataclass(frozen=True)
class MediaLimits:
    """What a source may cost, and how finely it is looked at."""

    max_tiles: int | None = None  # of a picture; None is the model's own
    max_frames: int | None = None  # of a video; None is the model's own
    start: float | None = None  # of a video, seconds
    end: float | None = None
    images: Limits = DEFAULT_LIMITS
    videos: VideoLimits = VideoLimits()

    def __post_init__(self) -> None:
        if any(most is not None and most < 1 for most in (self.max_tiles, self.max_frames)):
            raise InputError("max_tiles and max_frames must be at least 1")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise InputError(f"end ({self.end:g} s) must be after start ({self.start:g} s)")


def open_media(
    sources: Sequence[Any],
    config: PLMConfig,
    limits: MediaLimits = MediaLimits(),  # noqa: B008
    boxes: Mapping[int, Box] | None = None,
) -> list[Medium]:
    """Reads pictures and videos for a model.

    One picture is tiled; of several, each is squashed to one tile, as published.

    Args:
        sources: paths, or anything that `load_image` takes; videos are told by their suffix.
        boxes: frame of a video, counted from 0: left, top, right, bottom in pixels; drawn on those frames that are
            looked at.

    Raises:
        MediaError: a source cannot be read, or is beyond the limits.
    """
    several = len(sources) > 1
    return [_open(source, config, limits, several, boxes or {}) for source in sources]


def _open(source: Any, config: PLMConfig, limits: MediaLimits, several: bool, boxes: Mapping[int, Box]) -> Medium:
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in VIDEO_SUFFIXES:
        return _video(source, config, limits, boxes)
    pixels = load_image(source, limits=limits.images)
    height, width = pixels.shape[:2]
    most = limits.max_tiles or config.max_tiles
    if several or most == 1:
        tiles = tile_pixels(pixels, 1, config.tile, thumbnail=False)  # one squash
    else:
        tiles = tile_pixels(pixels, most, config.tile)
    return Medium(tiles, (width, height))


def _video(source: Any, config: PLMConfig, limits: MediaLimits, boxes: Mapping[int, Box]) -> Medium:
    clip = sample_seconds(
        source, limits.max_frames or config.max_frames, start=limits.start, end=limits.end, limits=limits.videos
    )
    transform = from_config(PreprocessConfig(config.tile, interpolation="bicubic"))
    drawn = [
        _with_box(frame, boxes[index]) if index in boxes else frame
        for frame, index in zip(clip.frames, clip.indices.tolist(), strict=True)
    ]
    frames = torch.stack([resize_pixels(frame, config.tile, config.tile, "bicubic") for frame in drawn])
    return Medium(transform.normalize(frames), (clip.frames.shape[2], clip.frames.shape[1]), is_video=True)


def _with_box(frame: Pixels, box: Box) -> Pixels:
    """A copy of a frame (H, W, 3) with a box on it."""
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).rectangle(box, outline=BOX_COLOUR, width=BOX_LINE)
    return np.array(image)
