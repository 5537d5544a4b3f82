"""Conversations as token ids, with labels where there is something to learn: PerceptionLM's two styles.

encode(row, tokenizer, image_tokens, max_length)   a line of a training file
chat_format(tokenizer)                             the marks that a language model wants

Source: published conversation code of PerceptionLM (`plm_sft`, `warmup`); rows as its training documentation has them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from midsight.errors import CheckpointError, InputError
from midsight.plm.boxes import Box, fill_tags, format_box, parse_boxes
from midsight.plm.tokenizer import JsonTokenizer, TextCodec, Tokenizer, open_tokenizer

__all__ = [
    "Box",
    "Chat",
    "JsonTokenizer",
    "Message",
    "Sample",
    "TextCodec",
    "Tokenizer",
    "chat_format",
    "encode",
    "format_box",
    "open_tokenizer",
    "parse_boxes",
]

IGNORED = -100  # label of a token that is not learnt
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_TAGS = re.compile(r"<(?:image|video)>\n|\n<(?:image|video)>|<(?:image|video)>")
Segment = str | int  # text, or a number of visual tokens


class Sample(TypedDict):
    """One number per token each; a label is the token's id where it is learnt, else -100. Nothing is shifted."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Message:
    """What one side says: text and visual tokens in order."""

    role: Literal["user", "assistant"]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Chat:
    """How a language model wants its turns marked."""

    tokenizer: TextCodec
    image_token_id: int
    begin: tuple[int, ...]  # before everything
    before_role: int
    after_role: tuple[int, ...]
    lead: str  # belongs to the text of a message: one piece with a line break at its start
    close: tuple[int, ...]  # behind every message
    end: tuple[int, ...]  # behind the last answer
    system: str = SYSTEM

    def message(self, role: str, segments: Sequence[Segment]) -> list[int]:
        """Ids of a whole message with its marks."""
        return [*self.opening(role), *self.text((self.lead, *segments)), *self.close]

    def opening(self, role: str) -> list[int]:
        """The marks in front of a message, without the lead."""
        return [self.before_role, *self.tokenizer.encode(role), *self.after_role]

    def text(self, segments: Sequence[Segment]) -> list[int]:
        """Ids of texts and visual tokens in order; neighbouring texts are encoded as one."""
        ids: list[int] = []
        run = ""
        for segment in segments:
            if isinstance(segment, str):
                run += segment
                continue
            ids += [*self.tokenizer.encode(run), *[self.image_token_id] * segment]
            run = ""
        return ids + self.tokenizer.encode(run)


def chat_format(tokenizer: TextCodec, image_token_id: int | None = None, system: str = SYSTEM) -> Chat:
    """The marks of a tokenizer's own language model, told by its special tokens: Llama 3's or ChatML (SmolLM2, Qwen).

    Raises:
        CheckpointError: neither kind, or no image token.
    """
    special = tokenizer.special_tokens
    image = special.get("<|image|>", special.get("<image>")) if image_token_id is None else image_token_id
    if image is None:
        raise CheckpointError(
            "the tokenizer has no image token: expected <|image|> among its special tokens, as PerceptionLM's have it. "
            "A tokenizer of the bare language model will not do"
        )
    if {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"} <= special.keys():
        return Chat(
            tokenizer,
            image,
            begin=(special["<|begin_of_text|>"],),
            before_role=special["<|start_header_id|>"],
            after_role=(special["<|end_header_id|>"],),
            lead="\n\n",
            close=(special["<|eot_id|>"],),
            end=(special["<|end_of_text|>"],) if "<|end_of_text|>" in special else (),
            system=system,
        )
    if {"<|im_start|>", "<|im_end|>"} <= special.keys():
        line = tuple(tokenizer.encode("\n"))
        return Chat(
            tokenizer,
            image,
            begin=(),
            before_role=special["<|im_start|>"],
            after_role=line,
            lead="",
            close=(special["<|im_end|>"], *line),
            end=(),
            system=system,
        )
    raise CheckpointError(
        "the tokenizer belongs to no chat model that is known here: expected the special tokens of Llama 3 "
        "(<|start_header_id|>, <|eot_id|> ...) or of ChatML (<|im_start|>, <|im_end|>)"
    )


def encode(
    row: Mapping[str, Any],
    tokenizer: TextCodec,
    image_tokens: Sequence[int],
    max_length: int,
    style: Literal["plm_sft", "warmup"] = "plm_sft",
) -> Sample:
    """A line of a training file as ids and labels; its media are not opened.

    Messages are taken while all of them together are shorter than `max_length`; the first that is not ends the row.

    Args:
        row: `conversations` or `text`, with `image`, `video`, `bbox`, `width` and `height` where it has them.
        tokenizer: of the language model, with an image token.
        image_tokens: number of visual tokens of each medium: one for an image (all its tiles) or a video (all its
            frames), one for each of several images, none for text.
        max_length: tokens; the result is shorter.
        style: "plm_sft" with the marks of a chat, "warmup" without any and without the first question.

    Raises:
        InputError: nothing can be learnt from the row: malformed, or its first question or answer does not fit.
    """
    if style not in ("plm_sft", "warmup"):
        raise InputError(f"style must be plm_sft or warmup, got {style!r}")
    messages = read_messages(row, image_tokens)
    chat = chat_format(tokenizer)
    several = len(image_tokens) > 1
    ids: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(messages):
        if style == "warmup":
            part = _bare(chat, message, first=index == 0 and not several)
        else:
            part = _marked(chat, message, first=index == 0, last=index == len(messages) - 1)
        if len(ids) + len(part) >= max_length:
            break
        ids += part
        labels += part if message.role == "assistant" else [IGNORED] * len(part)
    if all(label == IGNORED for label in labels):
        raise InputError(f"the first question and answer do not fit into {max_length} tokens")
    return {"input_ids": ids, "labels": labels}


def read_messages(row: Mapping[str, Any], image_tokens: Sequence[int]) -> list[Message]:
    """The questions and answers of a row, from the first question to the last answer, visual tokens in their places.

    Raises:
        InputError: a row without a question that is answered, an unknown speaker, a box that is not there, image tags
            that do not match the images.
    """
    turns = _turns(row)
    if "bbox" in row:
        turns = [(role, _with_boxes(text, row)) for role, text in turns]
    while turns and turns[0][0] == "assistant":
        turns = turns[1:]
    while turns and turns[-1][0] == "user":
        turns = turns[:-1]
    if not turns:
        raise InputError("the row has no question that is answered")
    if len(image_tokens) > 1:
        return _tags_replaced(turns, image_tokens)
    messages = [Message(role, (_TAGS.sub("", text) if role == "user" else text,)) for role, text in turns]
    return [Message("user", (*image_tokens, *messages[0].segments)), *messages[1:]]


def _turns(row: Mapping[str, Any]) -> list[tuple[Literal["user", "assistant"], str]]:
    if "conversations" not in row:
        if not isinstance(row.get("text"), str):
            raise InputError("the row has neither conversations nor a text")
        return [("user", ""), ("assistant", row["text"])]
    turns: list[tuple[Literal["user", "assistant"], str]] = []
    conversations = row["conversations"]
    if not isinstance(conversations, Sequence) or not all(isinstance(turn, Mapping) for turn in conversations):
        raise InputError("conversations must be a list of objects with 'from' and 'value'")
    for turn in conversations:
        match turn.get("from"):
            case "human":
                turns.append(("user", str(turn.get("value", ""))))
            case "assistant":
                turns.append(("assistant", str(turn.get("value", ""))))
            case other:
                raise InputError(f"a message is from {other!r}; expected 'human' or 'assistant'")
    return turns


def _with_boxes(text: str, row: Mapping[str, Any]) -> str:
    width, height, boxes = row.get("width"), row.get("height"), row["bbox"]
    if not isinstance(width, int | float) or not isinstance(height, int | float):
        raise InputError("a row with bbox needs the picture's width and height")
    return fill_tags(text, boxes, width, height)


def _tags_replaced(turns: list[tuple[Literal["user", "assistant"], str]], image_tokens: Sequence[int]) -> list[Message]:
    """Several images: each tag becomes the next image's tokens."""
    left = list(image_tokens)
    messages = []
    for role, text in turns:
        texts = text.split("<image>") if role == "user" else [text]
        if len(texts) - 1 > len(left):
            raise InputError(f"the row has {len(image_tokens)} images, but more <image> tags")
        segments: list[Segment] = [texts[0]]
        for piece in texts[1:]:
            segments += [left.pop(0), piece]
        messages.append(Message(role, tuple(segments)))
    if left:
        raise InputError(f"the row has {len(image_tokens)} images, but {len(image_tokens) - len(left)} <image> tags")
    return messages


def _bare(chat: Chat, message: Message, first: bool) -> list[int]:
    """Style "warmup": no marks, and of the first question only its visual tokens."""
    if message.role == "assistant":
        return chat.text((*message.segments, "\n"))
    return chat.text([s for s in message.segments if isinstance(s, int)] if first else message.segments)


def _marked(chat: Chat, message: Message, first: bool, last: bool) -> list[int]:
    ids = chat.message(message.role, message.segments)
    if first:
        ids = [*chat.begin, *chat.message("system", (chat.system,)), *ids]
    return [*ids, *chat.end] if last else ids
