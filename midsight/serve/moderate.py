"""`POST /v1/moderate`: verdicts on pictures and videos, by the policy that the server was started with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from midsight.library.moderate import Policy
from midsight.library.moderate.scores import Scorer
from midsight.library.moderate.verdicts import Clip, judge
from midsight.serve.embeddings import check_model
from midsight.serve.encoder import Ask, Encoder, Row
from midsight.serve.errors import ApiError
from midsight.serve.forms import read_request
from midsight.serve.inputs import Entries, File, Text, read_entries
from midsight.serve.openapi import EXAMPLE_PICTURE, described

PATH = "/v1/moderate"
MOST_CLIPS = 1024  # of a request


@dataclass(frozen=True)
class Rules:
    """A policy with its texts and examples embedded; safe to use from several threads."""

    policy: Policy
    scorer: Scorer

    def clip(self, embedding: Row, start: float | None = None, end: float | None = None) -> Clip:
        """The scores of a picture, or of a stretch of a video."""
        scores = self.scorer.scores(embedding[None])[0].tolist()
        return Clip(scores, [self.scorer.nearest(embedding, n) for n in range(len(scores))], start, end)


class ModerateRequest(BaseModel):
    """Pictures and videos to judge."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    model: str | None = Field(None, description="The server's own, if it is named.")
    input: Entries = []
    user: str | None = Field(None, description="Is not looked at.")


class RangeOf(BaseModel):
    """A part of a video, in seconds."""

    start: float
    end: float
    score: float


class FindingOf(BaseModel):
    """What is said of one input and one category."""

    category: str
    verdict: Literal["flag", "review", "pass"]
    score: float
    threshold: float
    review: float | None
    by: str = Field(description="The prompt or example that the score comes from.")
    ranges: list[RangeOf]


class VerdictOf(BaseModel):
    """The gravest verdict of all categories, and each of them."""

    object: Literal["verdict"]
    index: int
    verdict: Literal["flag", "review", "pass"]
    findings: list[FindingOf]


class ModerateResponse(BaseModel):
    """Verdicts in the order of the inputs."""

    object: Literal["list"]
    data: list[VerdictOf]
    model: str
    policy: str = Field(description="Hash of the policy.")


class ModerateService:
    """The endpoint of moderation.

    Args:
        encoder: what embeds; of the model that the rules were made with.
        rules: what is looked for.
    """

    names: Sequence[str] = ()

    def __init__(self, encoder: Encoder, rules: Rules) -> None:
        self._encoder, self._rules = encoder, rules

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
        names = [self._encoder.about.name]
        example = {"picture": {"input": EXAMPLE_PICTURE}}
        router.add_api_route(
            PATH, self.create, methods=["POST"], **described(ModerateRequest, ModerateResponse, names, example)
        )
        return router

    async def create(self, request: Request) -> Response:
        """What of the server's policy pictures and videos show, and where in a video."""
        return await self._encoder.answer(request, self._create)

    async def _create(self, ask: Ask) -> Response:
        asked, files = await read_request(ask.request, ModerateRequest, self._encoder.limits)
        if asked.model is not None:
            check_model(asked.model, [self._encoder.about.name])
        items = read_entries(asked.input, files, self._encoder.limits)
        if text := next((item for item in items if isinstance(item, Text)), None):
            raise ApiError(400, f"{text.place}: a text; expected a picture or a video", "invalid_value", text.place)
        media = [file for file in await self._encoder.fetched(items, ask) if isinstance(file, File)]
        parts = [part for index, file in enumerate(media) for part in await self._parts(index, file)]
        if len(parts) > MOST_CLIPS:
            raise ApiError(
                400,
                f"input: {len(parts)} pictures and clips of {self._rules.policy.segment_seconds:g} seconds, the limit "
                f"of this server is {MOST_CLIPS}. Send fewer or shorter videos",
                "invalid_value",
                "input",
            )
        rows = await self._encoder.embed([file for _, file in parts], ask, num_frames=self._rules.policy.frames)
        clips: list[list[Clip]] = [[] for _ in media]
        for (index, file), row in zip(parts, rows, strict=True):
            clips[index].append(self._rules.clip(row, *(file.stretch or (None, None))))
        data = [self._verdict(index, found) for index, found in enumerate(clips)]
        answer = {"object": "list", "data": data, "model": self._encoder.about.name}
        return JSONResponse({**answer, "policy": self._rules.policy.fingerprint})

    async def _parts(self, index: int, file: File) -> list[tuple[int, File]]:
        """A picture as it is, a video as its clips."""
        if not file.is_video:
            return [(index, file)]
        stretches = await self._encoder.stretches(file, self._rules.policy.segment_seconds)
        return [(index, replace(file, stretch=stretch)) for stretch in stretches]

    def _verdict(self, index: int, clips: list[Clip]) -> dict[str, Any]:
        found = judge("", self._rules.policy.categories, clips).record()
        return {"object": "verdict", "index": index, "verdict": found["verdict"], "findings": found["findings"]}
