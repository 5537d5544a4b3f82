"""What is in the index: a list of it, and each item's small picture and file.

Files are those of the index and no others: an item is named by its id, never by a path.
"""

import asyncio
import json
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from midsight.library.index import Filter, Hit, Library
from midsight.library.stores.base import pyarrow
from midsight.serve.collection import Collection
from midsight.serve.errors import ApiError
from midsight.serve.log import GONE
from midsight.serve.openapi import ErrorBody
from midsight.serve.search import Moment, read_filter
from midsight.serve.thumbnails import Thumbnails

MOST = 5000  # items of one answer
LISTS = 4  # that are kept, each of another filter
FRESH = 10.0  # seconds that a list counts as new
DRAWERS = 2  # threads that make pictures
SECONDS = 30.0  # for one picture
COLUMNS = ("id", "path", "kind", "start", "end", "page", "width", "height", "size", "mtime")
ORDER = [("mtime", "descending"), ("path", "ascending"), ("start", "ascending"), ("page", "ascending")]
TYPES = {  # what a browser may show; everything else is a download
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".gif": "image/gif", ".bmp": "image/bmp", ".avif": "image/avif", ".mp4": "video/mp4", ".m4v": "video/mp4",
    ".mov": "video/quicktime", ".webm": "video/webm", ".mkv": "video/x-matroska", ".ogv": "video/ogg",
    ".pdf": "application/pdf",
}  # fmt: skip
SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
SHUT = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # of a picture or video that is opened by itself
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
NOT_FOUND: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in (404, 503, 504)}


class Item(BaseModel):
    """One thing that can be found."""

    id: str
    path: str
    kind: Literal["image", "video", "page"]
    start: float | None
    end: float | None
    page: int | None
    width: int
    height: int
    size: int
    mtime: float


class ItemList(BaseModel):
    """A part of the items, the newest first."""

    object: Literal["list"]
    total: int
    offset: int
    data: list[Item]


class _Route(APIRoute):
    """Parameters that cannot be are told as the other endpoints tell them."""

    def get_route_handler(self) -> Any:
        """FastAPI's own, with the errors of parameters in our form."""
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                name = str(first["loc"][-1])
                raise ApiError(400, f"{name}: {first['msg']}", "invalid_value", name) from None

        return told


class ItemService:
    """The endpoints of items.

    Args:
        collection: whose items.
        thumbnails: where small pictures come from.
    """

    names: Sequence[str] = ()
    ready = True

    def __init__(self, collection: Collection, thumbnails: Thumbnails) -> None:
        self._collection, self._thumbnails = collection, thumbnails
        self._drawing = ThreadPoolExecutor(DRAWERS, "midsight-thumbnails")
        self._turns = asyncio.Semaphore(DRAWERS)
        self._lists: OrderedDict[Filter, tuple[float, Any]] = OrderedDict()

    def close(self) -> None:
        """No more work."""
        self._collection.close()
        self._thumbnails.close()
        self._drawing.shutdown(wait=True, cancel_futures=True)

    def router(self) -> APIRouter:
        """The endpoints."""
        router = APIRouter(route_class=_Route)
        more: dict[str, Any] = {"responses": {400: {"model": ErrorBody}, **NOT_FOUND}}
        router.add_api_route("/v1/items", self.items, response_model=ItemList, **more)
        for name, work, kind in (("thumbnail", self.thumbnail, "image/webp"), ("media", self.media, "*/*")):
            shown: dict[str, Any] = {"responses": {200: {"content": {kind: {}}}, **more["responses"]}}
            path = f"/v1/items/{{id}}/{name}"
            router.add_api_route(path, work, methods=["GET"], response_class=Response, **shown)
            router.add_api_route(path, work, methods=["HEAD"], include_in_schema=False, name=f"{name}_head")
        return router

    async def items(
        self,
        offset: Annotated[int, Query(ge=0, lt=2**40)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        path: Annotated[list[str], Query(max_length=64)] = [],  # noqa: B006 (FastAPI copies it)
        kind: Annotated[list[Literal["image", "video", "page"]], Query()] = [],  # noqa: B006
        tag: Annotated[list[str], Query(max_length=64)] = [],  # noqa: B006
        after: Moment | None = None,
        before: Moment | None = None,
    ) -> Any:
        """What is in the index, the newest files first."""
        asked = SimpleNamespace(
            paths=path, kinds=kind, tags=tag, after=after, before=before, min_bytes=None, max_bytes=None
        )
        where = read_filter(asked)
        body = await self._collection.ask(lambda library: self._list(library, where, offset, limit))
        return Response(body, media_type="application/json")

    async def thumbnail(self, id: Id, request: Request) -> Response:
        """A small picture of an item, WebP."""
        hit = await self._collection.hit(id)
        _inside(self._collection.root, hit)
        loop = asyncio.get_running_loop()
        try:
            async with self._turns, asyncio.timeout(SECONDS):
                if await request.is_disconnected():  # a page that is scrolled gives up what it has passed
                    return Response(status_code=GONE)
                data, name = await loop.run_in_executor(self._drawing, self._thumbnails.get, hit)
        except TimeoutError:
            raise ApiError(504, f"{hit.path}: no picture within {SECONDS:g} seconds", "timeout") from None
        headers = {**SAFE, "ETag": f'"{name}"', "Cache-Control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/webp", headers=headers)

    async def media(self, id: Id) -> Response:
        """An item's file, whole or in parts (Range), so that a video plays from any second."""
        hit = await self._collection.hit(id)
        file = _inside(self._collection.root, hit)
        kind = TYPES.get(file.suffix.lower())
        name = quote(os.path.basename(hit.path))
        headers = {
            **SAFE, "Cache-Control": "private, no-cache",
            "Content-Disposition": f"{'inline' if kind else 'attachment'}; filename*=UTF-8''{name}",
        }  # fmt: skip
        if kind != "application/pdf":  # the browser's own viewer of documents does not open in a sandbox
            headers["Content-Security-Policy"] = SHUT
        return FileResponse(file, media_type=kind or "application/octet-stream", headers=headers)

    def _list(self, library: Library, where: Filter, offset: int, limit: int) -> bytes:
        """Runs in a thread of the collection."""
        made, rows = self._lists.get(where, (0.0, None))
        if rows is None or (offset == 0 and time.monotonic() - made > FRESH):
            pa = pyarrow()
            parts = list(library.store.scan(COLUMNS, where))
            rows = pa.Table.from_batches(parts).select(list(COLUMNS)).sort_by(ORDER) if parts else []
            self._lists[where] = (time.monotonic(), rows)
            while len(self._lists) > LISTS:
                self._lists.popitem(last=False)
        some = rows.slice(offset, limit).to_pylist() if len(rows) else []
        return json.dumps({"object": "list", "total": len(rows), "offset": offset, "data": some}).encode()


def _inside(root: FilePath, hit: Hit) -> FilePath:
    """The file of a hit, if it is one and lies below the root, also behind links.

    Raises:
        ApiError: 404.
    """
    try:
        file = hit.file.resolve(strict=True)
        inside = file.is_relative_to(root.resolve()) and file.is_file() and os.access(file, os.R_OK)
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise ApiError(404, f"{hit.path}: is gone, cannot be read, or leads out of the folder", "file_gone")
    return file
