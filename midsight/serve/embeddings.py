"""`POST /v1/embeddings`: texts, pictures and videos to embeddings, in the words of OpenAI's API.

Source: OpenAI's API reference, "Create embeddings".
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from midsight.serve.encoder import Ask, Encoder, Row
from midsight.serve.errors import ApiError
from midsight.serve.forms import read_request
from midsight.serve.inputs import Entries, read_entries
from midsight.serve.openapi import EXAMPLE_PICTURE, described

PATH = "/v1/embeddings"
ROWS_AT_ONCE = 16  # written without a pause


class EmbeddingRequest(BaseModel):
    """Texts, pictures and videos to embed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    model: str
    input: Entries = []
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Only the model's own number: embeddings are not cut.")
    user: str | None = Field(None, description="Is not looked at.")
    num_frames: int = Field(8, ge=1, le=64, description="Taken from each video, evenly.")
    truncate: bool = Field(False, description="Cut texts that are too long for the model instead of refusing them.")


class Embedding(BaseModel):
    """The embedding of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Of length 1; a string is base64 of float32, little-endian.")


class Usage(BaseModel):
    """Tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(BaseModel):
    """Embeddings in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class EmbeddingService:
    """The endpoint of embeddings.

    Args:
        encoder: what embeds.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.names: Sequence[str] = (encoder.about.name,)
        self._encoder = encoder

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._encoder.ready

    def close(self) -> None:
        """No more work."""
        self._encoder.close()

    def router(self) -> APIRouter:
        """The endpoint."""
        router = APIRouter()
        examples = {
            "texts": {"model": self.names[0], "input": ["a red bicycle at night", "a cat on a sofa"]},
            "picture": {"model": self.names[0], "input": EXAMPLE_PICTURE, "encoding_format": "base64"},
        }
        router.add_api_route(
            PATH,
            self.create,
            methods=["POST"],
            **described(EmbeddingRequest, EmbeddingResponse, self.names, examples),
        )
        return router

    async def create(self, request: Request) -> Response:
        """Embeddings of texts, pictures and videos, all in one space."""
        return await self._encoder.answer(request, self._create)

    async def _create(self, ask: Ask) -> Response:
        asked, files = await read_request(ask.request, EmbeddingRequest, self._encoder.limits)
        check_model(asked.model, self.names)
        self._check_dimensions(asked.dimensions)
        items = read_entries(asked.input, files, self._encoder.limits)
        rows = await self._encoder.embed(items, ask, num_frames=asked.num_frames, truncate=asked.truncate)
        return Response(await _written(asked, rows, ask.tokens), media_type="application/json")

    def _check_dimensions(self, wanted: int | None) -> None:
        dim = self._encoder.about.dim
        if wanted not in (None, dim):
            raise ApiError(
                400,
                f"dimensions: the model gives {dim}, and its embeddings lose their meaning when they are cut. Leave it "
                "out",
                "unsupported_value",
                "dimensions",
            )


def check_model(name: str, names: Sequence[str]) -> None:
    """Raises:
    ApiError: 404, there is no such model.
    """
    if name not in names:
        raise ApiError(404, f"model: there is no {name!r} here, only {names[0]!r}", "model_not_found", "model")


async def _written(asked: EmbeddingRequest, rows: Sequence[Row], tokens: int) -> str:
    """The answer as JSON; other requests have their turn while a long one is written."""
    entries = []
    for index, row in enumerate(rows):
        value = (
            base64.b64encode(row.astype("<f4").tobytes()).decode()
            if asked.encoding_format == "base64"
            else row.tolist()
        )
        entries.append(json.dumps({"object": "embedding", "index": index, "embedding": value}))
        if index % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = json.dumps({"object": "list", "model": asked.model, "usage": usage})
    return f'{rest[:-1]}, "data": [{", ".join(entries)}]}}'
