"""API keys: `Authorization: Bearer KEY`, compared in constant time."""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from midsight.errors import ConfigError
from midsight.serve.errors import ApiError

VARIABLE = "MIDSIGHT_API_KEYS"  # keys separated by commas
OPEN = ("/health", "/ready", "/healthz", "/readyz")  # for those who watch the server
PAGE = ("/", "/page/")  # the page itself, of which the second is a beginning: it holds nothing, and asks for the key
WITH_PASS = re.compile(r"/v1/items/[0-9a-f]{32}/(?:thumbnail|media)")  # what <img> and <video> ask for, without headers
PASS_SECONDS = 3600
_SECRET = secrets.token_bytes(32)  # of this process


def find_keys(given: Sequence[str] = ()) -> tuple[str, ...]:
    """The keys given and those of `MIDSIGHT_API_KEYS`; none means that everyone may ask.

    Raises:
        ConfigError: an empty key, or a variable without any.
    """
    variable = os.environ.get(VARIABLE, "")
    listed = [key.strip() for key in variable.split(",") if key.strip()]
    if variable and not listed:
        raise ConfigError(f"{VARIABLE} is set, but holds no key; unset it, or give keys separated by commas")
    if not all(key.strip() for key in given):
        raise ConfigError("an API key is empty; leave it out to serve without keys")
    return tuple(dict.fromkeys((*(key.strip() for key in given), *listed)))


class KeyCheck:
    """ASGI middleware: 401 for requests without one of the keys, before anything of their body is read."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or _is_open(scope) or self._known(scope):
            await self.app(scope, receive, send)
            return
        refused = ApiError(
            401,
            "a key of this server is needed: send the header Authorization: Bearer KEY",
            "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
        )
        await refused.response()(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = header.partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # every key is compared, so that the time tells nothing about which one is near
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == b"bearer" and any(found)


def make_pass(seconds: float = PASS_SECONDS) -> str:
    """What opens pictures and videos for some time, in an address: `?pass=...`. It opens nothing else."""
    until = str(int(time.time() + seconds))
    return f"{until}.{_signed(until)}"


def _is_open(scope: Scope) -> bool:
    if scope["method"] not in ("GET", "HEAD"):
        return False
    path = scope["path"]
    return path == PAGE[0] or path.startswith(PAGE[1]) or (WITH_PASS.fullmatch(path) is not None and _has_pass(scope))


def _has_pass(scope: Scope) -> bool:
    given = parse_qs(scope["query_string"].decode("latin-1")).get("pass", [""])[0]
    until, _, signature = given.partition(".")
    genuine = hmac.compare_digest(signature.encode(), _signed(until).encode())
    return genuine and until.isdigit() and int(until) > time.time()


def _signed(until: str) -> str:
    return hmac.new(_SECRET, until.encode(), hashlib.sha256).hexdigest()
