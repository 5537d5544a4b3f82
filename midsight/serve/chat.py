"""`POST /v1/chat/completions`: questions about pictures and texts, answered by a PLM."""

import contextlib
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from midsight.errors import InputError
from midsight.plm import PLM, Sampling
from midsight.plm.answer import Answer, AnswerConfig, Answerer
from midsight.plm.media import MediaLimits
from midsight.serve.conversation import Prompt, read_prompt
from midsight.serve.decoding import COMMAND
from midsight.serve.errors import ApiError
from midsight.serve.limits import ServeLimits, read_json_body
from midsight.serve.log import GONE, NOTES, note
from midsight.serve.openapi import described
from midsight.serve.pages import Pages
from midsight.serve.schema import ChatCompletion, ChatRequest, read_request
from midsight.serve.worker import Gone, Job, Worker, left_at_error, watched
from midsight.threads import settle

Item = str | Answer  # pieces of an answer, then the whole
PATH = "/v1/chat/completions"


class ChatService:
    """A PLM behind the chat endpoint.

    Args:
        model: the PLM, or a language model alone.
        name: of the model, as requests give it.
        limits: what requests may cost.
        threads: CPU threads; None follows the machine.
        decoder: the command that decodes pictures; None decodes them in this process.

    Raises:
        CheckpointError: the model has no tokenizer, or one without an image token.
    """

    def __init__(
        self,
        model: PLM,
        name: str,
        limits: ServeLimits = ServeLimits(),  # noqa: B008 (frozen)
        threads: int | None = None,
        decoder: Sequence[str] | None = COMMAND,
    ) -> None:
        self.names = (name,)
        self.limits = limits
        self._model, self._threads = model, threads
        self._worker = Worker(limits.queue)
        self._pages = Pages(limits, decoder)
        Answerer(model)  # its errors belong to the start

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._worker.ready

    def close(self) -> None:
        """Ends what is running at its next token."""
        self._worker.close()
        self._pages.close()

    def router(self) -> APIRouter:
        """The endpoint."""
        router = APIRouter()
        example = {
            "model": self.names[0],
            "messages": [{"role": "user", "content": "What is a cat?"}],
            "max_tokens": 20,
        }
        about = described(ChatRequest, ChatCompletion, self.names, {"question": example}, form=False)
        about["responses"][200]["content"] = {"text/event-stream": {}}  # with "stream": true
        router.add_api_route(PATH, self.complete, methods=["POST"], **about)
        return router

    async def complete(self, request: Request) -> Response:
        """Answers a request, whole or as server-sent events."""
        with self._worker.admit() as ticket:  # in front of the body: so many bodies at most are in memory
            asked = read_request(await read_json_body(request, self.limits.max_body_bytes))
            prompt = self._prompt(asked)
            config = self._config(asked, prompt)
            note(request.scope, media=len(prompt.pictures), stream=bool(asked.stream))
            job: Job[Item] = Job(self.limits.timeout)
            ticket.start(job, lambda job: self._work(prompt, config, job))
            with left_at_error(job), contextlib.suppress(Gone):
                return await self._answered(request, asked, job)
        return Response(status_code=GONE)  # nobody reads it

    async def _answered(self, request: Request, asked: ChatRequest, job: Job[Item]) -> Response:
        reply = _Reply(asked.model, request.scope)
        with watched(request, job):
            item = await job.next()  # errors up to here have a status of their own, in streams, too
            if asked.stream:
                usage = asked.stream_options is not None and asked.stream_options.include_usage
                return _EventStream(reply.events(item, job, usage), job)
            while isinstance(item, str):
                item = await job.next()
            if item.why == "interrupted":
                raise job.late()
            return JSONResponse(reply.whole(item))

    def _prompt(self, asked: ChatRequest) -> Prompt:
        if asked.model not in self.names:
            raise ApiError(
                404, f"model: there is no {asked.model!r} here, only {self.names[0]!r}", "model_not_found", "model"
            )
        prompt = read_prompt(asked.messages, self.limits, self._model.config.context_length)
        if prompt.pictures and self._model.config.vision is None:
            raise ApiError(
                400,
                f"{prompt.pictures[0].place}: {self.names[0]} is a language model alone and reads no pictures. Leave "
                "them out, or start the server with --plm and the folder of a PerceptionLM",
                "images_not_supported",
                prompt.pictures[0].place,
            )
        return prompt

    def _config(self, asked: ChatRequest, prompt: Prompt) -> AnswerConfig:
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        return AnswerConfig(
            max_new_tokens=asked.max_completion_tokens or asked.max_tokens or self.limits.max_new_tokens,
            stop=tuple(asked.stop),
            sampling=Sampling(asked.temperature or 0.0, asked.top_p, seed=seed),
            media=MediaLimits(max_tiles=1 if prompt.coarse else None, images=self.limits.images),
        )

    def _work(self, prompt: Prompt, config: AnswerConfig, job: Job[Item]) -> Item:
        """In the model's thread."""
        settle(self._threads)
        answerer = Answerer(self._model, config)
        if prompt.system is not None:
            answerer.chat = replace(answerer.chat, system=prompt.system)
        try:
            page = self._pages.take(answerer, prompt)
            pieces = answerer.stream(prompt.question, page, prompt.history, until=job.over)
            answer = _hand_over(pieces, job)
        except InputError as error:
            hint = '. Send "detail": "low" with a picture, or fewer of them' if prompt.pictures else ""
            raise ApiError(400, f"messages: {error}{hint}", "context_length_exceeded", "messages") from None
        self._pages.give_back(prompt, page)
        return answer


def _hand_over(pieces: Generator[str, None, Answer], job: Job[Item]) -> Answer:
    """All pieces to the job; the whole answer is left."""
    while True:
        try:
            job.put(next(pieces))
        except StopIteration as end:
            whole: Answer = end.value
            return whole


class _EventStream(StreamingResponse):
    """Server-sent events; whatever ends it ends the job."""

    def __init__(self, events: AsyncIterator[str], job: Job[Item]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second: nginx must not hold it back
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.leave()
            scope[NOTES].setdefault("finish_reason", "client_gone")


class _Reply:
    """One answer in OpenAI's words."""

    def __init__(self, model: str, scope: Scope) -> None:
        self._scope = scope
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.why}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage(answer)}

    async def events(self, item: Item, job: Job[Item], usage: bool) -> AsyncIterator[str]:
        """Lines of a stream, from the first item on."""
        extra = {"usage": None} if usage else {}
        yield self._chunk({"role": "assistant", "content": "", "refusal": None}, extra)
        try:
            while isinstance(item, str):
                yield self._chunk({"content": item}, extra)
                item = await job.next()
            if item.why == "interrupted":
                raise job.late()
        except ApiError as error:  # the status has been sent
            note(self._scope, finish_reason="error", error=error.code)
            yield _event(error.body)
            return
        counts = self._usage(item)
        yield self._chunk({}, extra, item.why)
        if usage:
            yield _event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": counts})
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], extra: dict[str, None], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**self._head, "object": "chat.completion.chunk", "choices": [choice], **extra})

    def _usage(self, answer: Answer) -> dict[str, int]:
        counts = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.new_tokens}
        note(self._scope, **counts, finish_reason=answer.why)
        return {**counts, "total_tokens": answer.prompt_tokens + answer.new_tokens}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
