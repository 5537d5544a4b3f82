"""What a request to the encoder holds: texts, files, addresses, in one order.

An entry of `input` is a string, which is a text or a `data:` URL, or a part as in a chat: {"type": "text", "text": ...}
or {"type": "image_url", "image_url": {"url": ...}}. Only a part can name an address: a text that looks like one stays a
text.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Tag
from pydantic_core import PydanticCustomError

from midsight.serve.errors import ApiError
from midsight.serve.limits import EncoderLimits
from midsight.serve.pictures import BRANDS, LONGEST_HEAD, is_picture
from midsight.serve.schema import ImagePart, OrOne, Part, TextPart

DATA_URL = re.compile(r"data:(image|video)/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE | re.ASCII)
LOOKS_LIKE_ONE = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]", re.IGNORECASE | re.ASCII)
VIDEO_SIGNATURES = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"FLV\x01",
    b"OggS",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
)


class VideoUrl(Part):
    """Where a video is."""

    url: str


class VideoPart(Part):
    """A video among the inputs."""

    type: Literal["video_url"]
    video_url: VideoUrl


def _kind(entry: object) -> str | None:
    """Which kind of entry it is, so that an error speaks of that kind alone."""
    if isinstance(entry, str):
        return "string"
    found = entry.get("type") if isinstance(entry, dict) else getattr(entry, "type", None)
    return found if isinstance(found, str) else None


def _as_list(value: object) -> object:
    """A single entry is a list of one."""
    if isinstance(value, list) and value and all(isinstance(entry, int | list) for entry in value):
        message = "token numbers are of another vocabulary than the model's: send the texts themselves"
        raise PydanticCustomError("tokens", "{message}", {"message": message})
    return [value] if isinstance(value, str | dict) else value


Entry = Annotated[
    Annotated[str, Tag("string")]
    | Annotated[TextPart, Tag("text")]
    | Annotated[ImagePart, Tag("image_url")]
    | Annotated[VideoPart, Tag("video_url")],
    Discriminator(
        _kind,
        custom_error_type="entry",
        custom_error_message="expected a string, or a part of the type text, image_url or video_url",
    ),
]
Entries = Annotated[list[Entry], BeforeValidator(_as_list), OrOne()]
Place = str  # in the request, as input.3


@dataclass(frozen=True)
class Text:
    """A text to embed."""

    text: str
    place: Place


@dataclass(frozen=True)
class File:
    """A picture or a video, as it was sent."""

    data: bytes
    place: Place
    stretch: tuple[float, float] | None = None  # seconds of a video that count; all of it by default

    @property
    def is_video(self) -> bool:
        """By its first bytes; what is neither picture nor video is refused before."""
        return not is_picture(self.data)


@dataclass(frozen=True)
class Address:
    """Where a picture or a video is to be fetched from."""

    url: str
    place: Place


Item = Text | File | Address


def read_entries(
    entries: Sequence[Entry], uploads: Sequence[bytes], limits: EncoderLimits, field: str = "input"
) -> list[Item]:
    """The inputs of a request: its entries, then its uploaded files; `field` is where the entries stand in it.

    Raises:
        ApiError: 400, none or too many, an empty text, something that is no picture, video or text.
    """
    count = len(entries) + len(uploads)
    if not 1 <= count <= limits.max_inputs:
        raise ApiError(400, f"{field}: {count} entries, expected 1 to {limits.max_inputs}", "invalid_value", field)
    items = [_item(entry, f"{field}.{index}", limits) for index, entry in enumerate(entries)]
    return [*items, *(checked_file(data, f"file.{index}", limits) for index, data in enumerate(uploads))]


def checked_file(data: bytes, place: Place, limits: EncoderLimits) -> File:
    """A file that looks like a picture or a video.

    Raises:
        ApiError: 400, it does not, or is too large.
    """
    if is_picture(data) and len(data) > limits.max_image_bytes:
        raise _too_large(place, len(data), limits)
    if not is_picture(data) and not is_video(data):
        raise ApiError(
            400,
            f"{place}: neither a picture (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC) nor a video (MP4, MOV, WebM, "
            "Matroska, AVI, MPEG)",
            "invalid_image_format",
            place,
        )
    return File(data, place)


def is_video(data: bytes) -> bool:
    """Whether the first bytes are those of a video that may be read here."""
    if data[4:8] == b"ftyp":
        return data[8:12] not in BRANDS
    if data.startswith(VIDEO_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return True
    return data[:1] == b"G" and data[188:189] == b"G"  # MPEG transport stream


def _item(entry: Entry, place: Place, limits: EncoderLimits) -> Item:
    if isinstance(entry, ImagePart):
        return _from_url(entry.image_url.url, f"{place}.image_url.url", limits)
    if isinstance(entry, VideoPart):
        return _from_url(entry.video_url.url, f"{place}.video_url.url", limits)
    text = entry.text if isinstance(entry, TextPart) else entry
    if isinstance(entry, str) and LOOKS_LIKE_ONE.match(text, 0, LONGEST_HEAD):
        return _from_url(text, place, limits)
    if not text.strip():
        raise ApiError(400, f"{place}: the text is empty", "invalid_value", place)
    if len(text) > limits.max_characters:
        raise ApiError(
            400,
            f"{place}: {len(text)} characters, the limit of this server is {limits.max_characters}",
            "context_length_exceeded",
            place,
        )
    return Text(text, place)


def _from_url(url: str, place: Place, limits: EncoderLimits) -> Item:
    found = DATA_URL.match(url, 0, LONGEST_HEAD)
    if found is None:
        if url[:5].lower() in ("http:", "https"):
            return Address(url, place)
        raise ApiError(
            400, f"{place}: expected a picture or video as data:image/png;base64,... (or jpeg, mp4 ...)",
            "invalid_image_url", place,
        )  # fmt: skip
    size = (len(url) - found.end()) * 3 // 4 - 2
    if found[1].lower() == "image" and size > limits.max_image_bytes:
        raise _too_large(place, size, limits)
    try:
        data = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{place}: is not in base64, or is cut", "invalid_image_url", place) from None
    return checked_file(data, place, limits)


def _too_large(place: Place, size: int, limits: EncoderLimits) -> ApiError:
    return ApiError(
        400,
        f"{place}: a picture of about {size} bytes, the limit of this server is {limits.max_image_bytes}. Send a "
        "smaller one",
        "image_too_large",
        place,
    )
