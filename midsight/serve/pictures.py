"""Pictures of a request: `data:` URLs and nothing else. No address is ever followed."""

import base64
import binascii
import re
from dataclasses import dataclass

from midsight.serve.errors import ApiError
from midsight.serve.limits import ServeLimits

HEAD = re.compile(r"data:image/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64", re.IGNORECASE | re.ASCII)
LONGEST_HEAD = 200  # characters in front of the comma
SIGNATURES = (  # of the formats that are decoded: Pillow knows others, some of which start programs
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",  # TIFF
    b"MM\x00*",
)
BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # AVIF and HEIC


@dataclass(frozen=True)
class Picture:
    """A picture's file, as it was sent."""

    data: bytes
    place: str  # in the request, for messages
    number: int  # among its pictures, from 1


def read_data_url(url: str, place: str, number: int, limits: ServeLimits) -> Picture:
    """The file in a `data:` URL.

    Raises:
        ApiError: 400, another kind of address, no base64, too large, or no picture.
    """

    def refused(message: str, code: str = "invalid_image_url") -> ApiError:
        return ApiError(400, f"{place}: {message}", code, place)

    comma = url.find(",", 0, LONGEST_HEAD)
    if comma < 0 or not HEAD.fullmatch(url, 0, comma):
        raise refused(
            "expected a picture as data:image/png;base64,... (or jpeg, webp ...). This server fetches no addresses: "
            "send the picture itself"
        )
    characters = len(url) - comma - 1
    if characters * 3 // 4 - 2 > limits.max_image_bytes:
        raise refused(
            f"picture {number} has about {characters * 3 // 4} bytes, the limit of this server is "
            f"{limits.max_image_bytes}. Send a smaller one",
            "image_too_large",
        )
    try:
        data = base64.b64decode(url[comma + 1 :], validate=True)
    except (binascii.Error, ValueError):
        raise refused(f"picture {number} is not in base64, or is cut") from None
    if not is_picture(data):
        raise refused(
            f"picture {number} is of no format that is read here: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC",
            "invalid_image_format",
        )
    return Picture(data, place, number)


def is_picture(data: bytes) -> bool:
    """Whether the first bytes are those of a format that is decoded here."""
    if data.startswith(SIGNATURES):
        return True
    return (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or (data[4:8] == b"ftyp" and data[8:12] in BRANDS)
