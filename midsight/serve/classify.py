"""`POST /v1/classify`: zero-shot classification of pictures and videos, as `Perception.classify` does it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from midsight.errors import InputError
from midsight.serve.embeddings import check_model
from midsight.serve.encoder import Ask, Encoder, Row
from midsight.serve.errors import ApiError
from midsight.serve.forms import read_request
from midsight.serve.inputs import Entries, Text, read_entries
from midsight.serve.openapi import EXAMPLE_PICTURE, described
from midsight.serve.schema import OrOne
from midsight.tasks.zero_shot import check_labels, rank, resolve_templates

PATH = "/v1/classify"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ClassifyRequest(BaseModel):
    """Pictures and videos, and the labels to choose from."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    model: str
    input: Entries = []
    labels: list[str] = Field(min_length=1, description="Each once.")
    templates: Annotated[list[str], BeforeValidator(_as_list), OrOne()] = Field(
        [], description="One name (imagenet1k, kinetics, photo, plain), or prompts with {c}. None: the label itself."
    )
    top_k: int | None = Field(None, ge=1, description="How many labels to return; all by default.")
    num_frames: int = Field(8, ge=1, le=64, description="Taken from each video, evenly.")
    user: str | None = Field(None, description="Is not looked at.")


class Scored(BaseModel):
    """A label and its probability among all labels."""

    label: str
    score: float


class Classification(BaseModel):
    """Labels of one input, best first."""

    object: Literal["classification"]
    index: int
    predictions: list[Scored]


class ClassifyResponse(BaseModel):
    """Classifications in the order of the inputs."""

    object: Literal["list"]
    data: list[Classification]
    model: str


class ClassifyService:
    """The endpoint of classification.

    Args:
        encoder: what embeds, a model with texts.
    """

    names: Sequence[str] = ()  # the embeddings' service names the model

    def __init__(self, encoder: Encoder) -> None:
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
        name = self._encoder.about.name
        example = {"model": name, "input": EXAMPLE_PICTURE, "labels": ["a cat", "a dog"], "templates": "photo"}
        router.add_api_route(
            PATH,
            self.create,
            methods=["POST"],
            **described(ClassifyRequest, ClassifyResponse, [name], {"picture": example}),
        )
        return router

    async def create(self, request: Request) -> Response:
        """Labels of pictures and videos, with their probabilities."""
        return await self._encoder.answer(request, self._create)

    async def _create(self, ask: Ask) -> Response:
        limits = self._encoder.limits
        asked, files = await read_request(ask.request, ClassifyRequest, limits)
        check_model(asked.model, [self._encoder.about.name])
        labels, templates = self._choices(asked)
        media = read_entries(asked.input, files, limits)
        if text := next((item for item in media if isinstance(item, Text)), None):
            raise ApiError(400, f"{text.place}: a text; expected a picture or a video", "invalid_value", text.place)
        names = [Text(label, f"labels.{index}") for index, label in enumerate(labels)]
        rows = await self._encoder.embed([*media, *names], ask, num_frames=asked.num_frames, templates=templates)
        ranked = self._ranked(rows[: len(media)], rows[len(media) :], labels, asked.top_k)
        data = [{"object": "classification", "index": index, "predictions": one} for index, one in enumerate(ranked)]
        return JSONResponse({"object": "list", "data": data, "model": asked.model})

    def _choices(self, asked: ClassifyRequest) -> tuple[list[str], tuple[str, ...] | None]:
        """Labels and templates that can be."""
        limits = self._encoder.limits
        if self._encoder.about.context_length is None:
            raise ApiError(400, f"{asked.model} has no texts, and so no labels", "invalid_value", "labels")
        if len(asked.labels) > limits.max_labels:
            raise ApiError(
                400, f"labels: {len(asked.labels)}, the limit of this server is {limits.max_labels}", "invalid_value",
                "labels",
            )  # fmt: skip
        if long := next((label for label in asked.labels if len(label) > limits.max_characters), None):
            raise ApiError(400, f"labels: one has {len(long)} characters", "invalid_value", "labels")
        try:
            labels = check_labels(asked.labels)
        except InputError as error:
            raise ApiError(400, f"labels: {error}", "invalid_value", "labels") from None
        return labels, self._templates(asked.templates, len(labels))

    def _templates(self, given: Sequence[str], labels: int) -> tuple[str, ...] | None:
        limits = self._encoder.limits
        if not given:
            return None
        try:
            by_name = given[0] if len(given) == 1 and "{c}" not in given[0] else list(given)
            templates = tuple(resolve_templates(by_name))
        except InputError as error:
            raise ApiError(400, f"templates: {error}", "invalid_value", "templates") from None
        if labels * len(templates) > limits.max_prompts or any(len(one) > limits.max_characters for one in templates):
            raise ApiError(
                400,
                f"templates: {len(templates)} for {labels} labels, the limit of this server is {limits.max_prompts} "
                f"prompts of {limits.max_characters} characters",
                "invalid_value",
                "templates",
            )
        return templates

    def _ranked(
        self, media: Sequence[Row], labels: Sequence[Row], names: list[str], top_k: int | None
    ) -> list[list[dict[str, Any]]]:
        """For each picture its labels, best first."""
        classifier = torch.from_numpy(np.stack(labels))
        scale = self._encoder.about.logit_scale
        assert scale is not None  # of a model with texts
        found = [rank(scale * (classifier @ torch.from_numpy(row)), names, top_k) for row in media]
        return [[{"label": one.label, "score": one.score} for one in predictions] for predictions in found]
