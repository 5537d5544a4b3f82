"""Questions about pictures, videos and texts, answered: prompts, batches, streams, and pages that are read once.

answerer = Answerer(PLM.from_pretrained(folder))
answerer.answer("What is the total?", ["invoice.png"]).text
page = answerer.read(["invoice.png"])
for piece in answerer.stream("Who signed?", page): print(piece, end="")   # the page is not encoded again
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

import torch
from torch import Tensor, nn

from midsight.errors import CheckpointError, InputError
from midsight.plm.chat import Chat, chat_format
from midsight.plm.decode import Sampling, new_cache, rewind
from midsight.plm.media import MediaLimits, Medium, open_media
from midsight.plm.model import PLM
from midsight.plm.spelling import Spelling

Why = Literal["stop", "length", "interrupted"]
Turn = tuple[str, str]  # an earlier question and its answer


@dataclass(frozen=True)
class AnswerConfig:
    """How answers are made."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()  # texts that end an answer and are left out of it
    sampling: Sampling = Sampling()
    media: MediaLimits = MediaLimits()


@dataclass(frozen=True)
class Answer:
    """One answer."""

    text: str
    why: Why  # it ended: by itself or a stop string, at max_new_tokens or the context's end, or by Ctrl-C
    prompt_tokens: int
    new_tokens: int


@dataclass
class Page:
    """Media that were read, with the last prompt in the language model's cache; for one question at a time.

    What the next prompt has in common with it, pictures or a text before the question, is not computed again.
    """

    media: list[Medium]
    ids: list[int]  # system message and visual tokens
    features: Tensor | None = None  # (visual tokens, D)
    cache: Any = None  # None until the first question
    cached: list[int] = field(default_factory=list)  # the ids whose keys and values it holds

    def hold(self, prompt: Sequence[int], language_model: nn.Module) -> int:
        """Make the cache hold the beginning of a prompt and nothing else, its last id never; returns how many ids."""
        if self.cache is None:
            self.cache, self.cached = new_cache(language_model), []
        pairs = zip(self.cached, prompt[:-1], strict=False)
        known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        rewind(self.cache, known)
        self.cached = list(prompt[:known])
        return known

    def forget(self) -> None:
        """Drop the cache, whose state is not known."""
        self.cache, self.cached = None, []


@dataclass
class Ask:
    """One question of a batch."""

    question: str
    media: Sequence[Any] = ()
    history: Sequence[Turn] = ()


class Answerer:
    """A PLM with its tokenizer and the marks of its chat.

    Raises:
        CheckpointError: the model has no tokenizer, or one without an image token.
    """

    def __init__(self, model: PLM, config: AnswerConfig = AnswerConfig()) -> None:  # noqa: B008 (frozen)
        if model.tokenizer is None:
            raise CheckpointError("the PLM's folder has no tokenizer: expected tokenizer.json or tokenizer.model in it")
        self.model, self.config = model, config
        self.tokenizer = model.tokenizer
        self.chat: Chat = chat_format(model.tokenizer, model.config.image_token_id)

    def answer(self, question: str, media: Sequence[Any] | Page = (), history: Sequence[Turn] = ()) -> Answer:
        """One answer. Ctrl-C ends it: what there is comes back, with `why` "interrupted".

        Args:
            question: what is asked; text that spells a special token stays text.
            media: paths and the like, or a page that was read before.
            history: earlier turns.

        Raises:
            InputError: an empty question, or a prompt longer than the context.
            MediaError: a medium cannot be read.
        """
        spelling = Spelling(self.tokenizer, self.config.stop)
        page = media if isinstance(media, Page) else self.read(media)
        rest = self._rest(question, history, page)
        why: Why = "interrupted"
        with contextlib.suppress(KeyboardInterrupt):
            why = "stop" if self._run(page, rest, spelling) else "length"
        return Answer(spelling.text, why, len(page.ids) + len(rest), len(spelling.ids))

    def stream(
        self,
        question: str,
        media: Sequence[Any] | Page = (),
        history: Sequence[Turn] = (),
        until: Callable[[], bool] = lambda: False,
    ) -> Generator[str, None, Answer]:
        """The same answer piece by piece, as its characters become certain; the generator returns it whole.

        Args:
            question, media, history: as `answer`, with its errors.
            until: asked behind each token; True ends the answer, with `why` "interrupted".
        """
        page = media if isinstance(media, Page) else self.read(media)
        rest = self._rest(question, history, page)
        spelling = Spelling(self.tokenizer, self.config.stop)
        why: Why | None = None
        for token in self._tokens(page, rest):
            if piece := spelling.add(token):
                yield piece
            if spelling.stopped or until():
                why = "stop" if spelling.stopped else "interrupted"
                break
        if piece := spelling.rest():
            yield piece
        if why is None:
            why = "stop" if len(spelling.ids) < self._most(len(page.ids) + len(rest)) else "length"
        return Answer(spelling.text, why, len(page.ids) + len(rest), len(spelling.ids))

    def prompt_ids(self, question: str, page: Page) -> list[int]:
        """The ids of a whole prompt, up to where the answer begins. Errors as `answer`."""
        return [*page.ids, *self._rest(question, (), page)]

    def read(self, media: Sequence[Any]) -> Page:
        """Reads media once for any number of questions.

        Raises:
            MediaError: a medium cannot be read.
            InputError: more visual tokens than the context has.
        """
        opened = open_media(media, self.model.config, self.config.media)
        counts = [len(medium.pixels) * self.model.config.tokens_per_tile for medium in opened]
        ids = [*self.chat.begin, *self.chat.message("system", (self.chat.system,)), *self.chat.opening("user")]
        ids += self.chat.text((self.chat.lead, *counts)) if counts else []
        self._check_length(len(ids), opened)
        return Page(opened, ids)

    @torch.inference_mode()
    def answer_batch(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answers of a batch, decoded together; prompts may have any numbers of tiles. Errors as `answer`."""
        if not asks:
            return []
        pages = [self.read(ask.media) for ask in asks]
        rests = [self._rest(ask.question, ask.history, page) for ask, page in zip(asks, pages, strict=True)]
        rows = [
            torch.cat((self._embed_start(page), self._embed(rest)), dim=1)
            for page, rest in zip(pages, rests, strict=True)
        ]
        embeds, mask = left_padded(rows)
        spellings = [Spelling(self.tokenizer, self.config.stop) for _ in asks]
        most = [self._most(row.shape[1]) for row in rows]
        open_rows = set(range(len(asks)))
        ended: set[int] = set()
        for tokens in self.model.decode(embeds, max(most), mask, self.config.sampling):
            for row, token in enumerate(tokens.tolist()):
                if row not in open_rows:
                    continue
                if token in self.model.config.stop_token_ids:
                    ended.add(row)
                else:
                    spellings[row].add(token)
                if row in ended or spellings[row].stopped or len(spellings[row].ids) == most[row]:
                    open_rows.discard(row)
            if not open_rows:
                break
        return [
            Answer(s.text, "stop" if i in ended or s.stopped else "length", rows[i].shape[1], len(s.ids))
            for i, s in enumerate(spellings)
        ]

    def _run(self, page: Page, rest: list[int], spelling: Spelling) -> bool:
        """Fills `spelling`; whether the answer ended before its length did."""
        for token in self._tokens(page, rest):
            spelling.add(token)
            if spelling.stopped:
                return True
        return len(spelling.ids) < self._most(len(page.ids) + len(rest))

    def _most(self, prompt_tokens: int) -> int:
        """Most tokens of an answer: the context ends it, too."""
        return min(self.config.max_new_tokens, self.model.config.context_length - prompt_tokens)

    @torch.inference_mode()
    def _tokens(self, page: Page, rest: list[int]) -> Iterator[int]:
        """Ids of an answer without the end token; the page's cache holds the prompt afterwards."""
        prompt = [*page.ids, *rest]
        known = page.hold(prompt, self.model.language_model)
        embeds = self._embed(rest)
        if known < len(page.ids):
            embeds = torch.cat((self._embed_start(page), embeds), dim=1)
        embeds = embeds[:, known - len(prompt) :]
        whole = False
        try:
            steps = self.model.decode(embeds, self._most(len(prompt)), sampling=self.config.sampling, cache=page.cache)
            for tokens in steps:
                whole = True
                token = int(tokens[0])
                if token in self.model.config.stop_token_ids:
                    return
                yield token
        finally:
            if whole:
                rewind(page.cache, len(prompt))
                page.cached = prompt
            else:
                page.forget()

    def _rest(self, question: str, history: Sequence[Turn], page: Page) -> list[int]:
        """What follows the page in a prompt, up to where the answer begins."""
        if not question.strip():
            raise InputError("the question is empty; say what is to be answered")
        questions = [*(asked for asked, _ in history), question]
        lead = "" if page.media else self.chat.lead  # behind visual tokens it stands already
        ids = [*self.chat.text((lead, questions[0])), *self.chat.close]
        for (_, answered), asked in zip(history, questions[1:], strict=True):
            ids += [*self.chat.message("assistant", (answered,)), *self.chat.message("user", (asked,))]
        ids += [*self.chat.opening("assistant"), *self.tokenizer.encode(self.chat.lead)]
        self._check_length(len(page.ids) + len(ids), page.media)
        return ids

    def _check_length(self, tokens: int, media: Sequence[Medium]) -> None:
        limit = self.model.config.context_length - 1  # one place at least for the answer
        if tokens > limit:
            visual = sum(len(medium.pixels) for medium in media) * self.model.config.tokens_per_tile
            less = "fewer tiles or frames (max_tiles, max_frames)" if 2 * visual > tokens else "a shorter question"
            raise InputError(
                f"the prompt has {tokens} tokens, {visual} of them visual, and the language model reads {limit + 1}: "
                f"use {less}"
            )

    def _embed(self, ids: list[int]) -> Tensor:
        return self.model.token_embedding(torch.tensor([ids], device=self.model.device))  # 1, L, D

    def _embed_start(self, page: Page) -> Tensor:
        embeds = self._embed(page.ids)
        if not page.media:
            return embeds
        if page.features is None:
            page.features = self.model.encode_media(torch.cat([medium.pixels for medium in page.media]))
        places = torch.tensor(page.ids, device=embeds.device) == self.chat.image_token_id
        return embeds.masked_scatter(places[None, :, None], page.features.to(embeds.dtype))


def left_padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (1, L, D) of different lengths as (B, L, D), zeros in front, with the mask (B, L) of what is real."""
    longest = max(row.shape[1] for row in rows)
    embeds = rows[0].new_zeros(len(rows), longest, rows[0].shape[2])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=embeds.device)
    for index, row in enumerate(rows):
        embeds[index, longest - row.shape[1] :] = row[0]
        mask[index, longest - row.shape[1] :] = 1
    return embeds, mask
