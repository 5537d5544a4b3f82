"""`POST /v1/search`: words, pictures, videos and earlier hits in, what is most like them out."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from midsight.errors import InputError
from midsight.library.index import Filter, Hit, Library, Query
from midsight.library.index.query import mixed
from midsight.serve.collection import Collection, row_of
from midsight.serve.embeddings import check_model
from midsight.serve.encoder import Ask, Encoder, Row
from midsight.serve.errors import ApiError
from midsight.serve.forms import read_request
from midsight.serve.inputs import Entries, Item, Text, read_entries
from midsight.serve.openapi import described

PATH = "/v1/search"
MOST = 1000  # hits of one answer
ID = r"^[0-9a-f]{32}$"
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _as_date(value: object) -> object:
    """Pydantic would take numbers as seconds since 1970."""
    if value is None or (isinstance(value, str) and DATE.match(value)):
        return value
    raise PydanticCustomError("date", "expected a date as 2024-05-01, or with a time as 2024-05-01T12:00:00Z")


Moment = Annotated[
    datetime,
    BeforeValidator(_as_date),
    Field(strict=False),
    WithJsonSchema({"anyOf": [{"type": "string", "format": form} for form in ("date-time", "date")]}),
]


class SearchRequest(BaseModel):
    """What is looked for, and among what."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    model: str | None = Field(None, description="The index's own, if it is named.")
    input: Entries = Field([], description="Texts, pictures, videos.")
    similar_to: list[Annotated[str, Field(pattern=ID)]] = Field([], max_length=64, description="Ids of hits.")
    weights: list[float] = Field([], description="One for each of input, uploads and similar_to, in that order.")
    without: Entries = Field([], description="What the hits should not be like.")
    words: bool = Field(True, description="Look into the text of pages, too.")
    paths: list[str] = Field([], max_length=64, description="Patterns: *.jpg, 2024/**")
    kinds: list[Literal["image", "video", "page"]] = []
    tags: list[str] = Field([], max_length=64, description="All of them.")
    after: Moment | None = Field(None, description="Files changed since: 2024-05-01, or with a time.")
    before: Moment | None = None
    min_bytes: int | None = Field(None, ge=0, lt=2**63)
    max_bytes: int | None = Field(None, ge=0, lt=2**63)
    top: int = Field(20, ge=1, le=MOST)
    exact: bool = Field(False, description="Compare with every row, also in a large index.")


class Found(BaseModel):
    """A hit."""

    id: str
    path: str
    kind: Literal["image", "video", "page"]
    start: float | None = Field(description="Seconds, of a stretch of a video.")
    end: float | None
    page: int | None = Field(description="From 1, of a document.")
    score: float
    similarity: float | None
    text: str | None
    width: int
    height: int
    size: int
    mtime: float
    tags: list[str]


class SearchResponse(BaseModel):
    """Hits, best first."""

    object: Literal["list"]
    data: list[Found]
    model: str


class SearchService:
    """The endpoint of search.

    Args:
        encoder: what embeds; of the index's model.
        collection: what is searched.
    """

    names: Sequence[str] = ()  # the embeddings' service names the model

    def __init__(self, encoder: Encoder, collection: Collection) -> None:
        self._encoder, self._collection = encoder, collection

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._encoder.ready

    def close(self) -> None:
        """No more work."""
        self._encoder.close()
        self._collection.close()

    def router(self) -> APIRouter:
        """The endpoint."""
        router = APIRouter()
        name = self._encoder.about.name
        examples = {"mixture": {"input": ["a rocket at night"], "without": ["a cat"], "kinds": ["image"], "top": 5}}
        described_as = described(SearchRequest, SearchResponse, [name], examples)
        router.add_api_route(PATH, self.create, methods=["POST"], **described_as)
        return router

    async def create(self, request: Request) -> Response:
        """What in the index is most like texts, pictures, videos and other hits."""
        return await self._encoder.answer(request, self._create)

    async def _create(self, ask: Ask) -> Response:
        limits = self._encoder.limits
        asked, files = await read_request(ask.request, SearchRequest, limits)
        if asked.model is not None:
            check_model(asked.model, [self._encoder.about.name])
        items = read_entries(asked.input, files, limits) if asked.input or files else []
        without = read_entries(asked.without, [], limits, "without") if asked.without else []
        query = _query(asked, items)
        rows = await self._encoder.embed([*items, *without], ask) if items or without else []
        found = await self._collection.ask(
            lambda library: _search(library, query, rows[: len(items)], rows[len(items) :])
        )
        self._collection.remember(found)
        data = [record(hit) for hit in found]
        return JSONResponse({"object": "list", "data": data, "model": self._encoder.about.name})


def record(hit: Hit) -> dict[str, Any]:
    """A hit as it is sent."""
    found = asdict(hit)
    del found["file"]  # where the folder lies is nobody's business
    return found


def read_filter(asked: Any) -> Filter:
    """The filter in a request.

    Raises:
        ApiError: 400, one that cannot be.
    """
    try:
        after, before = (None if time is None else time.timestamp() for time in (asked.after, asked.before))
    except (OverflowError, ValueError, OSError):
        raise ApiError(400, "after, before: a time that no file has", "invalid_value", "after") from None
    return Filter(
        tuple(asked.paths), tuple(asked.kinds), tuple(asked.tags), after, before, asked.min_bytes, asked.max_bytes
    )


def _query(asked: SearchRequest, items: Sequence[Item]) -> Query:
    """The question, with files standing for their embeddings.

    Raises:
        ApiError: 400, one that cannot be.
    """
    texts = tuple(item.text for item in items if isinstance(item, Text))
    media = tuple(item for item in items if not isinstance(item, Text))
    try:
        return Query(
            texts=texts, images=media, rows=tuple(asked.similar_to), weights=tuple(asked.weights),
            where=read_filter(asked), words=" ".join(texts) if asked.words and not media else "",
            top=asked.top, exact=asked.exact,
        )  # fmt: skip
    except InputError as error:
        param = "weights" if "weights" in str(error) else "input"
        raise ApiError(400, str(error), "invalid_value", param) from None


def _search(library: Library, query: Query, positive: Sequence[Row], negative: Sequence[Row]) -> list[Hit]:
    for identifier in query.rows:
        row_of(library, identifier)
    rows = [library.embedding(identifier) for identifier in query.rows]
    return library.search_vector(query, mixed([*positive, *rows], query.weights, negative))
