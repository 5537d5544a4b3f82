"""The process that decodes for a worker of the cluster: `python -m midsight.library.jobs.child NUMBER`.

It stands alone, so that a file which hangs or kills its decoder costs that file. It is asked for one file after the
other over a socket, and answers with a header in JSON for each picture, clip or segment, with the pixels as plain bytes
behind it, and for a video with a last header. Pixels are those that `midsight embed` would see: the same reader makes
them.
"""

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from midsight import threads
from midsight.api.media import Entry, Reader
from midsight.child import connection, give_time, receive, send
from midsight.configs import PreprocessConfig
from midsight.errors import MidsightError
from midsight.images import describe
from midsight.transforms.image import from_config


def entries(reader: Reader, source: Any, name: str) -> Iterator[Entry | str]:
    """What a file holds; a text is why nothing more comes of it.

    Args:
        source: a path, or the bytes of a picture.
        name: what messages call it.
    """
    try:
        yield from reader.read((0, source))
    except MidsightError as error:
        yield str(error).replace(describe(source), name)
    except MemoryError:
        yield f"{name}: not enough memory to decode it."
    except Exception as error:  # a decoder's own fault on a file that nobody has thought of
        yield f"{name}: cannot be decoded ({type(error).__name__}: {error})."


def _in_time(found: Iterator[Entry | str], seconds: float) -> Iterator[Entry | str]:
    """The same, with an alarm that ends the process whatever code hangs in it, also where its parent is gone."""
    while True:
        give_time(seconds)
        entry = next(found, None)
        give_time(0)  # sending may last as long as the parent likes
        if entry is None:
            return
        yield entry


def serve(parent: socket.socket) -> None:
    """Answers until the other side is gone."""
    header, _ = receive(parent)
    preprocess: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["preprocess"].items()}
    transform = from_config(PreprocessConfig(**preprocess))
    readers = {
        kind: Reader(transform, kind, header["num_frames"], header["segment_seconds"]) for kind in ("image", "video")
    }
    file_seconds = header["file_seconds"]
    while True:
        header, data = receive(parent)
        source = Path(os.fsdecode(bytes.fromhex(header["path"]))) if header["path"] else bytes(data)
        done = header["kind"] == "image"  # there is one, or an error
        for entry in _in_time(entries(readers[header["kind"]], source, header["name"]), 2 * file_seconds):
            if isinstance(entry, str):
                send(parent, {"error": entry, "done": done})
            elif entry.frames is not None:
                about = {"start": entry.start, "end": entry.end, "shape": list(entry.frames.shape), "done": done}
                send(parent, about, entry.frames.contiguous().numpy().data.cast("B"))
        if not done:
            send(parent, {"done": True})


def main() -> None:
    """Serves the socket whose number is the only argument."""
    warnings.simplefilter("ignore")
    threads.keep_freed_memory()
    torch.set_num_threads(1)
    with connection() as ours:
        serve(ours)


if __name__ == "__main__":
    main()
