"""What a request may cost, and its body read within that.

A body is counted while it comes in, a picture's text before it is decoded, its pixels before they are.
"""

import asyncio
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from midsight.errors import ConfigError
from midsight.images import Limits
from midsight.serve.errors import ApiError

BODY_SECONDS = 60.0  # within which a body must have come in


@dataclass(frozen=True)
class ServeLimits:
    """What requests may cost, each of them and all together."""

    max_body_bytes: int = 32 << 20
    max_image_bytes: int = 10 << 20  # of a picture's file
    max_pixels: int = 50_000_000  # of a picture: A4 at 600 dpi has 35 million
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
        if not self.timeout > 0:
            raise ConfigError(f"timeout must be above 0 seconds, got {self.timeout}")

    @property
    def images(self) -> Limits:
        """For `midsight.images`."""
        return Limits(self.max_pixels, self.max_image_bytes)


async def read_json_body(request: Request, limits: ServeLimits) -> bytes:
    """The body of a request, never more than the limit.

    Raises:
        ApiError: 415 another type than JSON, 413 too large, 408 too slow, 400 broken off.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a browser sends other types across sites without asking first
        raise ApiError(415, "the body must be JSON: send the header Content-Type: application/json")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.max_body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {BODY_SECONDS:g} seconds", "timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "the connection was closed within the body") from None
    return bytes(body)


def _too_large(limits: ServeLimits) -> ApiError:
    return ApiError(
        413,
        f"the body has more than {limits.max_body_bytes} bytes, the limit of this server. Send fewer or smaller "
        "pictures",
        "request_too_large",
        headers={"Connection": "close"},  # what is left of the body is not read
    )
