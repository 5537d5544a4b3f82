"""The processes that read files for an index: copies of `python -P -m midsight.library.index.worker NUMBER`.

They stand alone so that a file which hangs or kills its decoder costs that file and nothing else. Each is given some
files at a time over a connection, and answers with pieces (pixels ready for the encoder) and a last word on each. The
time limit is the kernel's alarm, which ends the process whatever code it is in, and even where its parent is gone;
which file it was at is in its note.

Pixels follow the messages as plain bytes; see `midsight.child`.
"""

import os
import socket
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from midsight import child, forked, threads, video
from midsight.configs import PreprocessConfig
from midsight.errors import MediaError, MidsightError
from midsight.files import content_hash
from midsight.images import Scratch
from midsight.transforms.image import ImageTransform, from_config

Kind = Literal["image", "video", "document"]
Message = tuple[dict[str, Any], Tensor | None]
Answer = list[tuple[int, Message]]  # messages, each with the number of its file among those asked for

HASH_RATE = 5 << 20  # bytes a second that even a slow disk gives: the time limit grows with the file by that much
MAX_TEXT = 50_000  # letters of a page that are kept


@dataclass(frozen=True)
class Place:
    """What a piece is of its file.

    Attributes:
        kind: image, video or page, as in the store.
        start, end: seconds, of a stretch of a video.
        page: from 1, of a document.
        width, height: pixels of the picture or frame; of a page as it is drawn.
        look: see `look`; of the first frame.
        text: of the page.
    """

    kind: str
    start: float | None = None
    end: float | None = None
    page: int | None = None
    width: int = 0
    height: int = 0
    look: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Job:
    """How files are read; sent once.

    Attributes:
        preprocess: how pixels become what the encoder takes.
        clip_seconds, frames: as `manifest.Settings`.
        seconds: time for one piece: a picture, a stretch of a video, a page.
    """

    preprocess: PreprocessConfig
    clip_seconds: float
    frames: int
    seconds: float


def pieces(path: Path, kind: Kind, job: Job, note: Callable[[str], None]) -> Iterator[tuple[Place, Tensor]]:
    """What a file holds, uint8 (T, 3, S, S) each.

    Args:
        note: told of a part that cannot be read.

    Raises:
        MidsightError: the file cannot be read at all.
    """
    size = (0, 0)

    def keep_size(width: int, height: int) -> None:
        nonlocal size
        size = (width, height)

    transform = replace(from_config(job.preprocess), on_size=keep_size)
    if kind == "document":
        yield from _pages(path, transform, note)
    elif kind == "video":
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", video.MediaWarning)
            for clip in video.segments(path, job.clip_seconds, job.frames):
                frames = torch.stack([transform.pixels(frame) for frame in clip.frames])  # T, 3, S, S
                yield Place("video", float(clip.start), float(clip.end), None, size[0], size[1]), frames
        for warning in told:
            note(str(warning.message))
    else:
        pixels = transform.pixels(path, _SCRATCH)[None]
        yield Place("image", None, None, None, size[0], size[1]), pixels


def _pages(path: Path, transform: ImageTransform, note: Callable[[str], None]) -> Iterator[tuple[Place, Tensor]]:
    from midsight.library.documents.pdf import Pdf  # slow to load, and most folders hold none

    least = 2 * transform.config.image_size  # drawn no finer than the encoder can see
    with Pdf(path) as pdf:
        count = min(len(pdf), pdf.limits.max_pages)
        if count < len(pdf):
            note(f"{path}: {len(pdf)} pages, the first {count} are indexed")
        for number in range(1, count + 1):
            try:
                width, height = pdf.size(number)
                scale = min(1.0, least / min(width, height))
                drawn = pdf.pixels(number, (max(1, round(width * scale)), max(1, round(height * scale))))
                text = pdf.text(number)[:MAX_TEXT].replace("\0", " ").strip()
                kept = text.encode("utf-8", "replace").decode() or None  # no half of a pair of surrogates
                place = Place("page", None, None, number, width, height, text=kept)
                yield place, transform.pixels(drawn)[None]
            except MidsightError as error:
                note(str(error))


def read(path: Path, kind: Kind, job: Job, give_time: Callable[[float], None]) -> Iterator[Message]:
    """Reads one file: what file it is, its pieces, and last "done" or "failed".

    Args:
        give_time: told how many seconds the next step may take; 0 at the end.

    Yields:
        A message that JSON can hold, with the pixels uint8 (T, 3, S, S) of a piece.
    """
    notes: list[str] = []
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):  # a pipe might never end
            raise MediaError(f"{path}: not a regular file.")
        give_time(job.seconds + before.st_size / HASH_RATE)
        yield {"size": before.st_size, "mtime_ns": before.st_mtime_ns, "hash": content_hash(path)}, None
        give_time(job.seconds)
        for place, pixels in pieces(path, kind, job, notes.append):
            yield {"piece": {**vars(place), "look": look(pixels[0])}, "shape": list(pixels.shape)}, pixels
            give_time(job.seconds)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            yield {"failed": f"{path}: changed while it was read. It is read again the next time.", "drop": True}, None
            return
    except (MidsightError, OSError, MemoryError, RuntimeError, ValueError) as error:
        # ValueError and RuntimeError: what decoders raise on files that nobody has thought of
        yield {"failed": _reason(path, error)}, None
    else:
        yield {"done": notes}, None
    finally:
        give_time(0)


def read_all(
    files: Sequence[tuple[Path, Kind]],
    job: Job,
    give_time: Callable[[float], None],
    note: Callable[[dict[str, Any]], None],
) -> Iterator[Answer]:
    """Reads some files: of pictures, all messages in one answer; of a video or document, each as it comes.

    Args:
        files: several pictures, or one of anything.
        note: told which file it is at, and what is known of it.
    """
    answer: Answer = []
    for number, (path, kind) in enumerate(files):
        note({"at": number})
        for message in read(path, kind, job, give_time):
            answer.append((number, message))
            if "hash" in message[0]:
                note({"at": number, **message[0]})
            elif kind != "image":
                yield answer
                answer = []
    note({})
    if answer:
        yield answer


def look(pixels: Tensor) -> str:
    """Whether each of 8 x 8 places is darker than the one on its right, as 16 hexadecimal digits ("difference hash").

    Args:
        pixels: uint8 (3, S, S).
    """
    rows, columns, sizes = _grid(pixels.shape[1], pixels.shape[2])
    red, green, blue = pixels.numpy()
    grey = np.add(red, green, dtype=np.uint16)
    grey += blue
    sums = rows @ torch.from_numpy(grey.astype(np.float32)) @ columns  # 8, 9; whole numbers, so exact
    small = (sums / sizes).numpy()
    bits = np.packbits(small[:, 1:] > small[:, :-1], bitorder="little")
    return bits[::-1].tobytes().hex()


@cache
def _grid(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What sums up a picture's 8 x 9 places, (8, H) and (W, 9), and how many pixels are in each, (8, 9)."""
    rows, columns = _parts_of(height, 8), _parts_of(width, 9)
    return rows, columns.T.contiguous(), rows.sum(dim=1)[:, None] * columns.sum(dim=1)


def _parts_of(side: int, count: int) -> Tensor:
    """Which pixels of a side are in which of so many equal parts of it: ones, float (count, side)."""
    ones = torch.zeros(count, side)
    for part in range(count):
        ones[part, part * side // count : -(-(part + 1) * side // count)] = 1
    return ones


def serve(connection: socket.socket) -> None:
    """Answers until the other side is gone."""
    first, _ = child.receive(connection)
    job = Job(preprocess=_preprocess(first.pop("preprocess")), **first)
    while True:
        wanted, _ = child.receive(connection)
        files = [(Path(os.fsdecode(bytes.fromhex(path))), kind) for path, kind in wanted["files"]]
        for answer in read_all(files, job, child.give_time, forked.note):
            found = [pixels.flatten() for _, (_, pixels) in answer if pixels is not None]
            data = (found[0] if len(found) == 1 else torch.cat(found)).numpy().data if found else b""
            child.send(connection, {"messages": [(number, message) for number, (message, _) in answer]}, data)


def _preprocess(values: dict[str, Any]) -> PreprocessConfig:
    """JSON has lists where the configuration has tuples."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return PreprocessConfig(**values)


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, MidsightError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{path}: not enough memory to decode it."
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file."
    return f"{path}: cannot be read ({getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'})."


_SCRATCH = Scratch()


def main() -> None:
    """The template, for the connection whose number is the last argument."""
    threads.keep_freed_memory()
    torch.set_num_threads(1)
    with child.connection() as control:
        forked.split(control, serve)


if __name__ == "__main__":
    main()
