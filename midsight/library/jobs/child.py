"""The process that decodes for a worker of the cluster: `python -m midsight.library.jobs.child NUMBER`.

It stands alone, so that a file which hangs or kills its decoder costs that file. It is asked for one file after the
other over a socket, and answers with a header in JSON for each picture, clip or segment, with the pixels as plain bytes
behind it, and with a last header. Pixels are those that `midsight embed` would see: the same reader makes them.
"""

import json
import os
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from midsight import threads
from midsight.api.media import Entry, Reader
from midsight.configs import PreprocessConfig
from midsight.errors import MidsightError
from midsight.images import describe
from midsight.transforms.image import from_config

LENGTH = struct.Struct("<QQ")  # bytes of the header and of what follows it


def send(connection: socket.socket, header: dict[str, Any], data: Any = b"") -> None:
    """One message."""
    text = json.dumps(header).encode()
    connection.sendall(LENGTH.pack(len(text), len(data)) + text)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """The next message.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: nothing came within the connection's time limit.
    """
    sizes = LENGTH.unpack(_exactly(connection, LENGTH.size))
    header, data = (_exactly(connection, size) for size in sizes)
    return json.loads(header), data


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


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
        signal.setitimer(signal.ITIMER_REAL, seconds)
        entry = next(found, None)
        signal.setitimer(signal.ITIMER_REAL, 0)  # sending may last as long as the parent likes
        if entry is None:
            return
        yield entry


def serve(connection: socket.socket) -> None:
    """Answers until the other side is gone."""
    header, _ = receive(connection)
    preprocess: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["preprocess"].items()}
    transform = from_config(PreprocessConfig(**preprocess))
    readers = {
        kind: Reader(transform, kind, header["num_frames"], header["segment_seconds"]) for kind in ("image", "video")
    }
    file_seconds = header["file_seconds"]
    send(connection, {})  # ready: from here on, time counts
    while True:
        header, data = receive(connection)
        source = Path(os.fsdecode(bytes.fromhex(header["path"]))) if header["path"] else bytes(data)
        for entry in _in_time(entries(readers[header["kind"]], source, header["name"]), 2 * file_seconds):
            if isinstance(entry, str):
                send(connection, {"error": entry})
            elif entry.frames is not None:
                shape = list(entry.frames.shape)
                pixels = entry.frames.contiguous().numpy()
                send(connection, {"start": entry.start, "end": entry.end, "shape": shape}, pixels.data.cast("B"))
        send(connection, {"done": True})


def main() -> None:
    """Serves the socket whose number is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those above
    warnings.simplefilter("ignore")
    threads.keep_freed_memory()
    torch.set_num_threads(1)
    try:
        with socket.socket(fileno=int(sys.argv[1])) as connection:
            serve(connection)
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main()
