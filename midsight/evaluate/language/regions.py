"""A region marked in a video: its frames with red boxes, as PerceptionLM was trained to see them."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from midsight.evaluate.language.prompts import FRAMES
from midsight.evaluate.metrics.located import Box
from midsight.video import open_frames, plm_indices, probe

COLOUR, LINE = (255, 0, 0), 4  # line in pixels of the video


def mark_frames(video: Path, regions: Mapping[int, Box], folder: Path, count: int = FRAMES) -> list[Path]:
    """Evenly spaced frames as PNG files, a box drawn on each that has one.

    Args:
        regions: x0, y0, x1, y1 in pixels by frame, counted from 0.
        folder: where the files go.
        count: how many frames; all of a shorter video.

    Raises:
        MediaError: the video cannot be read.

    Source: published region prompts (red, 4 pixels wide) and the benchmark's own choice of frames.
    """
    chosen = set(plm_indices(probe(video).frames, 1.0, count))
    paths = []
    with open_frames(video) as frames:
        for frame in frames:
            if frame.index not in chosen:
                continue
            image = Image.fromarray(frame.pixels)
            if frame.index in regions:
                ImageDraw.Draw(image).rectangle(regions[frame.index], outline=COLOUR, width=LINE)
            paths.append(folder / f"{frame.index:06d}.png")
            image.save(paths[-1], compress_level=1)
    return paths
