"""The page at `/`: files of the package, and what the page has to know of the server."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from midsight import __version__
from midsight.serve.auth import PASS_SECONDS, make_pass
from midsight.serve.collection import Collection
from midsight.serve.encoder import Encoder
from midsight.serve.errors import ApiError
from midsight.serve.moderate import Rules

TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-cache",
}  # fmt: skip


class About(BaseModel):
    """What the page offers, by what the server has."""

    version: str
    model: str
    texts: bool
    folder: str
    items: int
    categories: list[str]
    max_bytes: int
    access: str
    access_seconds: int


class PageService:
    """The page. Its files are open to everyone; they hold nothing of the index.

    Args:
        encoder, collection: what it is about.
        rules: where there is a policy.
    """

    names: Sequence[str] = ()
    ready = True

    def __init__(self, encoder: Encoder, collection: Collection, rules: Rules | None = None) -> None:
        self._encoder, self._collection, self._rules = encoder, collection, rules
        folder = resources.files("midsight.serve") / "page"
        self._files = {
            entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(tuple(TYPES))
        }

    def close(self) -> None:
        """No more work."""
        self._collection.close()

    def router(self) -> APIRouter:
        """The addresses."""
        router = APIRouter()
        router.add_api_route("/", self.index, methods=["GET", "HEAD"], include_in_schema=False)
        router.add_api_route("/page/{name}", self.file, methods=["GET", "HEAD"], include_in_schema=False)
        router.add_api_route("/v1/page", self.about, methods=["GET"], response_model=About)
        return router

    async def index(self, request: Request) -> Response:
        """The page."""
        return self._answer("index.html", request)

    async def file(self, name: str, request: Request) -> Response:
        """A file that it uses."""
        if name not in self._files:
            raise ApiError(404, "there is no such address", "not_found")
        return self._answer(name, request)

    async def about(self) -> Any:
        """What the page offers."""
        items = await self._collection.ask(lambda library: library.count())
        return About(
            version=__version__, model=self._encoder.about.name, texts=self._encoder.about.context_length is not None,
            folder=self._collection.root.name, items=items,
            categories=list(self._rules.policy.names) if self._rules else [],
            max_bytes=self._encoder.limits.max_image_bytes, access=make_pass(), access_seconds=PASS_SECONDS,
        )  # fmt: skip

    def _answer(self, name: str, request: Request) -> Response:
        data = self._files[name]
        headers = {**HEADERS, "ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=TYPES["." + name.rpartition(".")[2]], headers=headers)
