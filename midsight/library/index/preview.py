"""A small picture of a hit: the picture itself, a frame of the video, the page."""

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from midsight import video
from midsight.errors import MidsightError
from midsight.images import Pixels, load_image

SIDE = 256  # pixels of the longer side
_QUALITY = 80


def thumbnail(
    file: Path,
    kind: str,
    start: float | None = None,
    page: int | None = None,
    side: int = SIDE,
    encoding: Literal["JPEG", "WEBP"] = "JPEG",
) -> bytes:
    """A small picture's file.

    Args:
        file: the file.
        kind: image, video or page.
        start: seconds; the first frame from there on is shown.
        page: from 1.
        side: longest side, pixels; nothing is made larger.

    Raises:
        MidsightError: the file is gone or cannot be read any more.
    """
    picture = Image.fromarray(_pixels(file, kind, start, page, side))
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, encoding, quality=_QUALITY)
    return buffer.getvalue()


def try_thumbnail(
    file: Path, kind: str, start: float | None = None, page: int | None = None, side: int = SIDE
) -> bytes | None:
    """As `thumbnail`; None where it cannot be made."""
    try:
        return thumbnail(file, kind, start, page, side)
    except MidsightError:
        return None


def _pixels(file: Path, kind: str, start: float | None, page: int | None, side: int) -> Pixels:
    if kind == "video":
        frames: Pixels = video.sample_frames(file, 1, start=start or None, approximate=not start).frames[0]
        return frames
    if kind == "page":
        from midsight.library.documents.pdf import Pdf

        with Pdf(file) as pdf:
            number = page or 1
            width, height = pdf.size(number)
            scale = min(1.0, side / max(width, height))
            return pdf.pixels(number, (max(1, round(width * scale)), max(1, round(height * scale))))
    return load_image(file, reduced_to=side)
