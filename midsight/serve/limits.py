"""What a request may cost, and its body read within that.

A body is counted while it comes in, a picture's text before it is decoded, its pixels before they are.
"""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from midsight.errors import ConfigError
from midsight.images import Limits
from midsight.serve.errors import ApiError
from midsight.video import VideoLimits

BODY_SECONDS = 60.0  # within which a body must have come in


@dataclass(frozen=True)
class ServeLimits:
    """What requests may cost, each of them and all together."""

    max_body_bytes: int = 32 << 20
    max_image_bytes: int = 10 << 20  # of a picture's file
    max_pixels: int = 50_000_000  # of a picture: A4 at 600 dpi has 35 million
    decode_seconds: float = 10.0  # of a picture's file, after which its decoder is ended
    max_media: int = 8  # pictures of a conversation
    queue: int = 8  # requests that wait while one is answered
    timeout: float = 300.0  # seconds from the request to the end of its answer
    max_new_tokens: int = 1024  # of an answer, where the request names no number
    pages: int = 4  # prompt starts with their pictures that are kept in memory

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_image_bytes", "max_pixels", "max_media", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.queue < 0 or self.pages < 0:
            raise ConfigError(f"queue and pages must be 0 or more, got {self.queue} and {self.pages}")
        if not (self.timeout > 0 and self.decode_seconds > 0):
            raise ConfigError(
                f"timeout and decode_seconds must be above 0, got {self.timeout} and {self.decode_seconds}"
            )

    @property
    def images(self) -> Limits:
        """For `midsight.images`."""
        return Limits(self.max_pixels, self.max_image_bytes)


@dataclass(frozen=True)
class EncoderLimits:
    """What requests to the encoder may cost, each of them and all together."""

    max_body_bytes: int = 32 << 20
    max_image_bytes: int = 10 << 20  # of a picture's file
    max_pixels: int = 50_000_000  # of a picture
    max_clip_pixels: int = 150_000_000  # of all frames taken from a video together: they are in memory at once
    max_video_frames: int = 20_000  # of a video's file, whether looked at or not
    max_video_seconds: float = 3600.0
    decode_seconds: float = 10.0  # of a picture's or a video's file, after which its decoder is ended
    max_inputs: int = 256  # of a request
    max_characters: int = 4096  # of a text
    max_labels: int = 1000
    max_prompts: int = 4096  # labels times templates
    max_frames: int = 64  # taken from a video
    queue: int = 128  # requests in the server at once
    bodies: int = 256 << 20  # bytes of their bodies, together
    waiting: int = 1024  # pictures and frames of these requests, together: each is in memory until its turn
    timeout: float = 30.0  # seconds from the request to the end of its answer

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value}")

    @property
    def images(self) -> Limits:
        """For `midsight.images`."""
        return Limits(self.max_pixels, self.max_image_bytes)

    def videos(self, num_frames: int) -> VideoLimits:
        """For `midsight.video`, where so many frames are taken."""
        return VideoLimits(
            max_pixels=min(self.max_pixels, self.max_clip_pixels // num_frames),
            max_bytes=self.max_body_bytes,
            max_frames=self.max_video_frames,
            max_seconds=self.max_video_seconds,
            timeout=self.decode_seconds,
        )


def announced_bytes(request: Request) -> int | None:
    """The length of a body as its header has it; None where it has none."""
    announced = request.headers.get("content-length", "")
    return int(announced[:20]) if announced.isascii() and announced.isdigit() else None


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request, never more than the limit.

    Raises:
        ApiError: 415 another type than JSON, 413 too large, 408 too slow, 400 broken off.
    """
    if content_type(request) != "application/json":  # a browser sends other types across sites without asking first
        raise ApiError(415, "the body must be JSON: send the header Content-Type: application/json")
    return await read_body(request, max_bytes)


def content_type(request: Request) -> str:
    """The type of a body, without parameters, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request of any type, never more than the limit.

    Raises:
        ApiError: 413 too large, 408 too slow, 400 broken off.
    """
    if (announced_bytes(request) or 0) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {BODY_SECONDS:g} seconds", "timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "the connection was closed within the body") from None
    return bytes(body)


async def discard_body(request: Request, max_bytes: int = 1 << 20, seconds: float = 0.015) -> None:
    """Take in what is left of a small body, so that a client still sending it hears an early refusal."""
    taken = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                taken += len(chunk)
                if taken > max_bytes:
                    return


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"the body has more than {max_bytes} bytes, the limit of this server. Send fewer or smaller pictures",
        "request_too_large",
        headers={"Connection": "close"},  # what is left of the body is not read
    )
