"""Files and addresses that a server must refuse, or take as what they are, without harm.

Names of files that are whole pictures or videos, whatever else they are, begin with "whole"; a flipped bit may leave a
file readable: those begin with "maybe". All others must be refused.
"""

import contextlib
import io
import socket
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import media

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}), "progressive": ("JPEG", {"progressive": True}), "png": ("PNG", {}), "gif": ("GIF", {}),
    "webp": ("WEBP", {"method": 0}), "lossless": ("WEBP", {"lossless": True, "method": 0}), "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}), "tiff_lzw": ("TIFF", {"compression": "tiff_lzw"}), "avif": ("AVIF", {"speed": 10}),
}  # fmt: skip
SIGNATURES = {
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "png": b"\x89PNG\r\n\x1a\n", "gif87": b"GIF87a", "gif89": b"GIF89a",
    "bmp": b"BM", "tiff_le": b"II*\x00", "tiff_be": b"MM\x00*", "webp": b"RIFF\x00\x10\x00\x00WEBPVP8 ",
    "avif": b"\x00\x00\x00\x1cftypavif", "heic": b"\x00\x00\x00\x1cftypheic", "mp4": b"\x00\x00\x00\x1cftypisom",
    "mkv": b"\x1aE\xdf\xa3", "avi": b"RIFF\x00\x10\x00\x00AVI LIST", "mpeg": b"\x00\x00\x01\xba", "flv": b"FLV\x01",
    "ogg": b"OggS",
}  # fmt: skip
ALLOWED = ("127.0.0.1", "localhost", "169.254.169.254", "::1", "10.0.0.1", "0.0.0.0")


def files() -> dict[str, bytes]:
    """All of them, by name."""
    picture = media.picture(160, 120, 0)
    wholes = {name: _saved(picture, kind, **options) for name, (kind, options) in FORMATS.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mp4", "mkv"):
            path = media.write_clip(Path(folder) / f"clip.{name}", "mpeg4", (96, 64), count=24, key_every=12)
            wholes[name] = path.read_bytes()
    cut = {  # nothing tells the end of a Matroska file as exactly as half a second
        f"{'maybe ' if name == 'mkv' and sixteenth >= 12 else ''}{name} cut at {sixteenth}/16": data[
            : len(data) * sixteenth // 16
        ]
        for name, data in wholes.items()
        for sixteenth in range(1, 16)
    }
    return {**cut, **_noise(), **_bombs(), **_animations(), **_foreign(wholes), **_flipped(wholes)}


def form(data: bytes, model: str = "embedded") -> tuple[bytes, str]:
    """A form with one file: its body and its type."""
    mark = "------------------------b0undary"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--{mark}\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + data + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _noise() -> dict[str, bytes]:
    """Random bytes behind the first bytes of a format."""
    generator = np.random.default_rng(0)
    return {
        f"{name} and noise {seed}": start + generator.bytes(4096 * (1 + seed))
        for name, start in SIGNATURES.items()
        for seed in range(4)
    }


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, depth: int, colour: int, *between: bytes, rows: int | None = None) -> bytes:
    """A PNG of zeros with chunks of one's own in front of them."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth * width
    packed = zlib.compressobj(9)
    row = bytes(1 + (bits + 7) // 8)
    data = b"".join(packed.compress(row) for _ in range(height if rows is None else rows)) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), *between, _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    return SIGNATURES["png"] + b"".join(chunks)


def _bombs() -> dict[str, bytes]:
    """Small files that stand for very large pictures."""
    huge = zlib.compress(bytes(200_000_000), 9)
    small = media.picture(64, 64, 0)
    jpeg, gif, bmp, tiff = (bytearray(_saved(small, kind)) for kind in ("JPEG", "GIF", "BMP", "TIFF"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65535, 65535)
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    image = gif.index(b"\x2c", 13 + 768)
    gif[image + 5 : image + 9] = struct.pack("<HH", 65535, 65535)
    bmp[18:26] = struct.pack("<ii", 65535, 65535)
    first = struct.unpack_from("<I", tiff, 4)[0]
    for entry in range(struct.unpack_from("<H", tiff, first)[0]):
        at = first + 2 + 12 * entry
        if struct.unpack_from("<H", tiff, at)[0] in (256, 257):  # width, height
            struct.pack_into("<HII", tiff, at + 2, 4, 1, 65535)
    loop = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 0) + struct.pack("<I", 8)
    return {
        "bomb png 65535 x 65535": _png(65535, 65535, 8, 2, rows=4),
        "bomb png 50000 x 50000 of one bit": _png(50000, 50000, 1, 0, rows=400),
        "bomb png 8000 x 8000": _png(8000, 8000, 8, 0),
        "bomb png of 2 billion columns": _png(2**31 - 1, 1, 1, 0, rows=0),
        "bomb png text": _png(8, 8, 8, 2, _chunk(b"zTXt", b"a\x00\x00" + huge), rows=4),
        "bomb png profile": _png(8, 8, 8, 2, _chunk(b"iCCP", b"a\x00\x00" + huge), rows=4),
        "maybe png with too few rows": _png(4000, 4000, 8, 2, rows=10),
        "bomb jpeg 65535 x 65535": bytes(jpeg),
        "bomb gif 65535 x 65535": bytes(gif),
        "bomb bmp 65535 x 65535": bytes(bmp),
        "bomb tiff 65535 x 65535": bytes(tiff),
        "bomb tiff that points to itself": loop,
        "whole png 7000 x 7000": _png(7000, 7000, 8, 0),
        "whole png 7000 x 7000 with alpha": _png(7000, 7000, 8, 6),
        "whole png 65535 x 1": _png(65535, 1, 8, 2),
        "whole png 1 x 65535": _png(1, 65535, 8, 2),
        "whole jpeg 65500 x 8": _saved(Image.new("RGB", (65500, 8)), "JPEG"),
        "whole gif 7000 x 7000": _saved(Image.new("P", (7000, 7000)), "GIF"),
        "whole tiff 7000 x 7000": _saved(Image.new("L", (7000, 7000)), "TIFF", compression="tiff_deflate"),
        "whole webp 7000 x 7000": _saved(Image.new("RGB", (7000, 7000)), "WEBP", method=0, quality=1),
    }


def _animations() -> dict[str, bytes]:
    """Ten thousand frames; the first one is the picture."""
    still = _saved(Image.new("P", (16, 16)), "GIF")
    start = still.index(b"\x2c", 13 + 3)
    frame = still[start:-1]
    control = _chunk(b"acTL", struct.pack(">II", 10_000, 0))
    data, frames, number = zlib.compress(bytes(8 * 25)), [], 0
    for _ in range(10_000):
        frames.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 8, 8, 0, 0, 1, 100, 0, 0)))
        frames.append(_chunk(b"fdAT", struct.pack(">I", number + 1) + data))
        number += 2
    apng = _png(8, 8, 8, 2, control)
    with tempfile.TemporaryDirectory() as folder:
        long = media.write_clip(Path(folder) / "long.mp4", "mpeg4", (16, 16), count=20_050, key_every=250).read_bytes()
    return {
        "whole gif of 10,000 frames": still[:start] + frame * 10_000 + b";",
        "whole apng of 10,000 frames": apng[:-12] + b"".join(frames) + apng[-12:],
        "video of 20,050 frames": long,
    }


def _foreign(wholes: dict[str, bytes]) -> dict[str, bytes]:
    """What is no picture, and pictures that are something else, too."""
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
        "svg of entities": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "a">{lol}]><svg>&l9;</svg>'.encode(),
        "html": b"<html><script>fetch('http://127.0.0.1')</script></html>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
        "zip": b"PK\x03\x04" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "program": b"\x7fELF" + bytes(100),
        "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        "concat script": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "text": b"a cat on a sofa",
        "nothing": b"",
        "zeros": bytes(100_000),
        "python": b"import os",
        "bmp and script": b"BM=1;/*" + bytes(100) + b"*/alert(1)",
        "gif and script": b"GIF89a=1;/*" + bytes(100) + b"*/alert(1)",
        "mp4 and postscript": SIGNATURES["mp4"] + b"%!PS-Adobe-3.0",
        "whole jpeg and zip": wholes["jpeg"] + b"PK\x03\x04" + bytes(1000),
        "whole png and html": wholes["png"] + b"<html><script>alert(1)</script></html>",
        "whole gif and script": wholes["gif"] + b"*/alert(1)",
        **{f"whole {name}": data for name, data in wholes.items()},
    }


def _flipped(wholes: dict[str, bytes]) -> dict[str, bytes]:
    generator = np.random.default_rng(1)
    found = {}
    for name, data in wholes.items():
        for turn in range(2):
            wrong = bytearray(data)
            for place in generator.integers(0, len(data), 8):
                wrong[place] ^= 1 << int(generator.integers(8))
            found[f"maybe {name} with wrong bits {turn}"] = bytes(wrong)
    return found


@dataclass
class Sink:
    """A port that nothing may connect to."""

    port: int
    heard: list[Any] = field(default_factory=list)


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """It listens for the time of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    found = Sink(listening.getsockname()[1])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listening.accept()
                found.heard.append(peer)
                connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield found
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def addresses(port: int) -> list[str]:
    """Ways to name the machine itself, its network or its files, to a server that is asked to fetch a picture."""
    hosts = (
        "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001",
        "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "0.0.0.0", "0", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]", "169.254.169.254", "metadata.google.internal", "10.0.0.1",
        "192.168.0.1", "172.16.0.1", "100.64.0.1", "127.0.0.1@localhost", "example.com@127.0.0.1",
        "localhost#@example.com", "127。0。0。1", "ⓛocalhost", "%6c%6f%63alhost",
    )  # fmt: skip
    urls = [f"http://{host}:{port}/cat.png" for host in hosts]
    there = f"127.0.0.1:{port}/cat.png"
    return [
        *urls, f"https://{there}", f"HTTP://{there}", f"//{there}", f"ftp://{there}", f" http://{there}",
        f"http:\\\\{there}", f"http:/{there}", f"http://\t{there}", f"gopher://{there}", "file:///etc/passwd",
        "/etc/passwd", f"jar:http://{there}!/", f"view-source:http://{there}", f"blob:http://{there}", f"data:http://{there}",
        f"data:image/png,http://{there}", f"data:text/uri-list;base64,http://{there}", "",
    ]  # fmt: skip
