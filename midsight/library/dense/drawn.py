"""Drawn frames of one input: a PNG of a picture, an MP4 of a video or a camera."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.errors import OutputError
from midsight.files import safe_join
from midsight.images.labels import write_png
from midsight.library.dense.plan import Item
from midsight.video import TimedFrame, write_video

Draw = Callable[[TimedFrame, Callable[[], npt.NDArray[np.uint8]]], None]  # a frame, and what makes its picture


def drawn_name(folder: str, item: Item) -> str:
    """The file that `drawn` writes, relative to the folder of results."""
    return f"{folder}/{item.name}{'.png' if item.kind == 'picture' else '.mp4'}"


@contextmanager
def drawn(out: Path, folder: str, item: Item, wanted: bool = True) -> Iterator[Draw]:
    """Gives a function that takes the frames of an input; the file is whole when the block ends well.

    Args:
        wanted: where False, nothing is drawn or written.
    """
    if not wanted:
        yield lambda frame, make: None
        return
    name = drawn_name(folder, item)
    if item.kind == "picture":
        yield lambda frame, make: write_png(place(out, name), Image.fromarray(make()))
        return
    with write_video(place(out, name)) as video:
        yield lambda frame, make: video.add(make(), frame.time, frame.end)


def place(out: Path, name: str) -> Path:
    """A path below `out`, its folder made.

    Raises:
        InputError: the name leads out of `out`, by a link for instance.
        OutputError: the folder cannot be made.
    """
    path = safe_join(out, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: could not be made ({error.strerror or error})") from error
    return path


def frame_name(folder: str, item: Item, frame: TimedFrame, ending: str = ".png") -> str:
    """The file of one frame of a video, relative to the folder of results."""
    return f"{folder}/{item.name}/{frame.index:06}{ending}"


def clear_frames(out: Path, folder: str, item: Item) -> None:
    """Removes the frames of an earlier, perhaps longer file of the same name.

    Raises:
        OutputError: they cannot be removed.
    """
    path = safe_join(out, f"{folder}/{item.name}")
    if item.kind == "picture" or not path.is_dir():
        return
    try:
        shutil.rmtree(path)  # no other input writes into the folder of a video
    except OSError as error:
        raise OutputError(f"{path}: could not be emptied ({error.strerror or error})") from error
