"""What training reads: one picture or video with its caption; and parts of a data set, listed before they are read.

A data set is a list of parts (a shard, a table, a folder). Listing a part costs no pixels and names every sample in
it, also those that cannot be used: reading these raises, so that each is counted once, in its place in the order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from midsight.errors import InputError, MediaError
from midsight.images import IMAGE_SUFFIXES
from midsight.video import VIDEO_SUFFIXES

Kind = Literal["image", "video"]

CAPTION_FIELDS = ("human_caption", "caption", "text", "model_caption", "description", "title")
"""Where a caption is looked for in a record, the first that is not empty; `human_caption` and `model_caption` are those
of the published PE Video Dataset."""

MAX_TEXT_BYTES = 1 << 20  # of a caption file or a record; what is longer is no caption


@dataclass(frozen=True)
class Sample:
    """A picture or video, not yet decoded."""

    key: str  # names it within the data set
    media: bytes | Path  # a whole file
    caption: str
    kind: Kind = "image"
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else its record says
    labels: bytes | None = None  # arrays beside it (an NPZ of the scene engine), where they were asked for


class BadSample(MediaError):
    """A sample that is left out. `reason` is one of a few words, for counting; the message has the details."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnusableError(InputError):
    """A data set without a single sample that can be used; the message says why."""


@dataclass(frozen=True)
class Problem:
    """A listed thing that is no sample: reading it raises."""

    key: str
    reason: str
    details: str

    def error(self) -> BadSample:
        return BadSample(self.reason, f"{self.key}: {self.details}")


class Part(Protocol):
    """A piece of a data set that is listed on its own."""

    @property
    def name(self) -> str:
        """Unlike every other part's, and the same wherever the data set lies."""

    def fingerprint(self) -> str:
        """Another one for another content, as far as can be told without reading media."""

    def listing(self) -> Sequence[Any]:
        """What can be given to `read`, in a fixed order; small, for all of it is in memory at once."""

    def read(self, entry: Any) -> Sample:
        """
        Raises:
            BadSample: it cannot be used.
        """


def kind_of(suffix: str) -> Kind | None:
    """What a file name's ending says, with its dot and in any case; None for other files."""
    lower = suffix.lower()
    return "image" if lower in IMAGE_SUFFIXES else "video" if lower in VIDEO_SUFFIXES else None


def plain_caption(value: object) -> str:
    """One line of text, "" for anything that is none."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def caption_in(record: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The first caption that is there, "" where none is."""
    return next((caption for name in fields if (caption := plain_caption(record.get(name)))), "")


def caption_of(key: str, caption: str, expected: str, needed: bool = True) -> str:
    """The caption itself.

    Raises:
        BadSample: it is empty, and needed; the message says what was expected.
    """
    if needed and not caption:
        raise BadSample("missing caption", f"{key}: has no caption. Expected {expected}.")
    return caption


def text_of(key: str, data: bytes) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        BadSample: it is not.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample("not UTF-8", f"{key}: the caption is not UTF-8 text ({error.reason}).") from error
