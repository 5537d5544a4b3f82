"""Messages of a request as a prompt: system text, earlier turns, a question, and its pictures.

All pictures of a conversation stand in front of its first question, wherever they were sent: there PerceptionLM has
learnt to expect one, and a page is read once for all questions about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from midsight.plm.answer import Turn
from midsight.serve.errors import ApiError
from midsight.serve.limits import ServeLimits
from midsight.serve.pictures import Picture, read_data_url
from midsight.serve.schema import ImagePart, Message, SystemMessage, TextPart

CHARACTERS = 16  # of a token, on average; a text beyond that is not even counted in tokens


@dataclass(frozen=True)
class Prompt:
    """What the model is asked."""

    question: str
    history: tuple[Turn, ...] = ()
    pictures: tuple[Picture, ...] = ()
    system: str | None = None  # None: the model's own
    coarse: bool = False  # one tile of each picture is enough


def read_prompt(messages: Sequence[Message], limits: ServeLimits, context_length: int) -> Prompt:
    """The prompt of these messages.

    Messages of one side that follow each other are one, with a line break between them.

    Raises:
        ApiError: 400, an order that is no conversation, an empty question, too many or unreadable pictures, texts that
            are certainly too long.
    """
    system: list[str] = []
    sides: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        text = "\n".join(part.text for part in message.content if isinstance(part, TextPart))
        if isinstance(message, SystemMessage):
            if sides:
                raise _refused(f"messages.{index}", "a system message must stand in front of all others")
            system.append(text)
        elif sides and sides[-1][0] == message.role:
            sides[-1] = (message.role, f"{sides[-1][1]}\n{text}")
        else:
            sides.append((message.role, text))
    _check_order(sides, len(messages))
    _check_length([*system, *(text for _, text in sides)], context_length)
    texts = [text for _, text in sides]
    return Prompt(
        question=texts[-1],
        history=tuple(zip(texts[:-1:2], texts[1::2], strict=True)),
        pictures=_pictures(messages, limits),
        system="\n".join(system) if system else None,
        coarse=_coarse(messages),
    )


def _pictures(messages: Sequence[Message], limits: ServeLimits) -> tuple[Picture, ...]:
    urls = [
        (part.image_url.url, f"messages.{index}.content.{at}.image_url.url")
        for index, message in enumerate(messages)
        for at, part in enumerate(message.content)
        if isinstance(part, ImagePart)
    ]
    if len(urls) > limits.max_media:
        raise ApiError(
            400,
            f"the conversation has {len(urls)} pictures, the limit of this server is {limits.max_media}. Send fewer",
            "too_many_images",
            "messages",
        )
    return tuple(read_data_url(url, place, number, limits) for number, (url, place) in enumerate(urls, 1))


def _coarse(messages: Sequence[Message]) -> bool:
    parts = [part for message in messages for part in message.content if isinstance(part, ImagePart)]
    return bool(parts) and all(part.image_url.detail == "low" for part in parts)


def _check_order(sides: Sequence[tuple[str, str]], count: int) -> None:
    if not sides or sides[-1][0] != "user":
        raise _refused(f"messages.{count - 1}", "the last message must be a user's: the question to be answered")
    if sides[0][0] != "user":
        raise _refused("messages", "the first message behind the system message must be a user's")
    if not sides[-1][1].strip():
        raise _refused(f"messages.{count - 1}.content", "the question is empty; say what is to be answered")


def _check_length(texts: Sequence[str], context_length: int) -> None:
    characters = sum(len(text) for text in texts)
    if characters > CHARACTERS * context_length:
        raise ApiError(
            400,
            f"the messages have {characters} characters, and the model reads {context_length} tokens: send less text",
            "context_length_exceeded",
            "messages",
        )


def _refused(place: str, message: str) -> ApiError:
    return ApiError(400, f"{place}: {message}", "invalid_value", place)
