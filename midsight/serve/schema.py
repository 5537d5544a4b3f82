"""A request of OpenAI's chat completions, as far as it is understood here; the rest is refused by name.

Source: OpenAI's API reference, "Create chat completion".
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationError

from midsight.serve.errors import ApiError

STOPS, STOP_LENGTH = 4, 256  # texts that end an answer, and characters of each
TAGS = {
    "system",
    "developer",
    "user",
    "assistant",
    "text",
    "image_url",
    "video_url",
    "string",
}  # pydantic names the kind within a place
IGNORED = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # what is not done here, and the values that do not ask for it
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}


class Part(BaseModel):
    """Of anything; unknown fields are left alone, as clients send back what other servers gave them."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class TextPart(Part):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Part):
    """Where a picture is."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Part):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


def _as_parts(content: object) -> object:
    """Plain text is one part."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@dataclass(frozen=True)
class OrOne:
    """In a schema: a list, or one of its entries without the list.

    Attributes:
        one: what may stand alone; None: an entry.
    """

    one: Mapping[str, Any] | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(core)
        return {"anyOf": [several, self.one or several["items"]]}


TEXT = OrOne({"type": "string"})
Texts = Annotated[list[TextPart], BeforeValidator(_as_parts), TEXT]
AnyParts = Annotated[
    list[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
    BeforeValidator(_as_parts),
    TEXT,
]
Stops = Annotated[
    list[str],
    BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop or []),
    OrOne({"type": ["string", "null"]}),
]


class SystemMessage(Part):
    """What the model is told about its part."""

    role: Literal["system", "developer"]
    content: Texts


class UserMessage(Part):
    """A question with its pictures."""

    role: Literal["user"]
    content: AnyParts


class AssistantMessage(Part):
    """An earlier answer."""

    role: Literal["assistant"]
    content: Texts


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Part):
    """What a stream holds besides its pieces."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stops = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def read_request(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        ApiError: 400, naming the field.
    """
    with field_errors():
        request = ChatRequest.model_validate_json(body)
    _check_extra(request.model_extra or {})
    if len(request.stop) > STOPS or any(len(text) > STOP_LENGTH for text in request.stop):
        raise ApiError(400, f"stop: at most {STOPS} texts of at most {STOP_LENGTH} characters", "invalid_value", "stop")
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options: only with stream", "invalid_value", "stream_options")
    return request


@contextlib.contextmanager
def field_errors() -> Iterator[None]:
    """What pydantic finds wrong in a body, as an ApiError 400 that names the field."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ApiError(400, _told(first), "invalid_value", _place(first["loc"])) from None


def _check_extra(extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if name in IGNORED or value is None:
            continue
        if name not in NEUTRAL:
            raise ApiError(400, f"{name}: there is no such parameter here; leave it out", "unknown_parameter", name)
        if not any(type(value) is type(ok) and value == ok for ok in _numbers(NEUTRAL[name])):
            allowed = " or ".join(repr(ok) for ok in NEUTRAL[name])
            told = f"is possible only as {allowed}" if allowed else "is not possible"
            raise ApiError(400, f"{name}: {told} on this server; leave it out", "unsupported_value", name)


def _numbers(values: tuple[Any, ...]) -> list[Any]:
    """Numbers in both types that JSON has for them."""
    return [kind(value) for value in values for kind in ((int, float) if type(value) is int else (type(value),))]


def _told(error: Any) -> str:
    place = _place(error["loc"])
    return f"{place}: {error['msg']}" if place else f"the body: {error['msg']}"


def _place(location: tuple[int | str, ...]) -> str | None:
    """Dotted, without the kinds that pydantic puts behind a number."""
    parts = [
        str(part)
        for before, part in zip((None, *location), location, strict=False)
        if not (isinstance(before, int) and part in TAGS)
    ]
    return ".".join(parts) or None


class ChatMessage(BaseModel):
    """What was answered."""

    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    """The one answer."""

    index: int
    message: ChatMessage
    finish_reason: str


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, int]
