"""A `Perception` behind a server: files and texts of requests in, embeddings out, in batches across requests.

await encoder.answer(request, work)     503 where there is enough to do; work(ask) gives the response
await encoder.embed(items, ask)         in it: one row for each item, in order

Whatever serves embeddings (classification, search, moderation) goes through here, so that all of it shares one model,
one queue and one set of limits.
"""

import asyncio
import contextlib
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from midsight.api.media import workers_for
from midsight.api.memory import free_memory
from midsight.api.perception import BATCH_SIZE, BATCH_SIZE_ELSEWHERE, Perception
from midsight.configs import PreprocessConfig
from midsight.errors import MidsightError
from midsight.serve.batching import Batcher, Kind, Piece
from midsight.serve.decoding import COMMAND, Decoder, pool
from midsight.serve.errors import ApiError
from midsight.serve.fetch import Fetcher
from midsight.serve.inputs import Address, File, Item, Text, checked_file
from midsight.serve.limits import EncoderLimits, announced_bytes, discard_body
from midsight.serve.log import GONE, LOGGER, note
from midsight.serve.metrics import Metrics
from midsight.serve.places import Amount, Place, Places
from midsight.serve.worker import Gone, Job, watched
from midsight.threads import trim
from midsight.transforms import get_text_tokenizer

Row = npt.NDArray[np.float32]
Templates = tuple[str, ...] | None
TEXT_BATCH = {"cpu": 64}  # prompts
TEXT_BATCH_ELSEWHERE = 256
TEXTS_KEPT = 1024  # embeddings that the model remembers
FETCHES = 8  # at once
LEAST_DECODERS = 2  # so that one that hangs does not hold up all others
HEADROOM = 0.6  # part of a request's time that may be spent on what waits in front of it
HINT = "Send fewer or smaller inputs, or try again when there is less to do"


@dataclass(frozen=True)
class About:
    """What is known of a model while it is not loaded."""

    name: str
    dim: int
    preprocess: PreprocessConfig
    context_length: int | None  # tokens of a text; None: it has no texts
    logit_scale: float | None
    identity: str
    device: str


@dataclass
class Ask:
    """A request on its way: its job, its place, and tokens that were counted."""

    request: Request
    job: "Job[tuple[int, Any]]"
    place: Place
    tokens: int = 0


class Encoder:
    """One model for all requests.

    Args:
        load: gives the model; called again when it was unloaded.
        limits: what requests may cost.
        fetcher: where files may be fetched from; nowhere by default.
        unload_after: seconds without a request after which the model leaves the memory; None keeps it.
        metrics: where figures go.
        batch_size: pictures and frames encoded together; None is the device's usual number.
        decoder: the command that decodes files; None decodes them in this process: a file that hangs or kills its
            decoder then does so to the server.

    Raises:
        MidsightError: the model cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[], Perception],
        limits: EncoderLimits = EncoderLimits(),  # noqa: B008 (frozen)
        fetcher: Fetcher = Fetcher(),  # noqa: B008 (frozen)
        unload_after: float | None = None,
        metrics: Metrics | None = None,
        batch_size: int | None = None,
        decoder: Sequence[str] | None = COMMAND,
    ) -> None:
        self.limits, self._load, self._fetcher = limits, load, fetcher
        self.metrics = metrics or Metrics()
        self._model: Perception | None = self._loaded()
        self.about = _about(self._model)
        device = self.about.device
        sizes = {
            "image": batch_size or BATCH_SIZE.get(device, BATCH_SIZE_ELSEWHERE),
            "text": TEXT_BATCH.get(device, TEXT_BATCH_ELSEWHERE),
        }
        idle = None if unload_after is None else (unload_after, self._unload)
        self._batcher = Batcher(self._work, sizes, self.metrics, idle)
        most = Amount(limits.queue, limits.bodies, limits.waiting, HEADROOM * limits.timeout)
        self._places = Places(most)
        self._decoder = Decoder(self.about.preprocess, limits, decoder)
        self._decoding = pool(max(LEAST_DECODERS, workers_for(self._model.device)))
        preparing = [self._decoding.submit(self._decoder.prepare) for _ in range(LEAST_DECODERS)]
        self._reading = ThreadPoolExecutor(1, "midsight-texts")
        self._fetching = ThreadPoolExecutor(FETCHES, "midsight-fetch")
        self._tokenizer = None if self.about.context_length is None else get_text_tokenizer(self.about.context_length)
        self.metrics.gauge("requests_now", "Requests in the server.", lambda: self._places.now.requests)
        self.metrics.gauge("frames_now", "Pictures and frames in the server.", lambda: self._places.now.frames)
        self.metrics.gauge("model_loaded", "Whether the model is in memory.", lambda: self.loaded)
        for prepared in preparing:
            prepared.result()

    @property
    def ready(self) -> bool:
        """Whether requests are taken; a model that is unloaded comes back with the next one."""
        return self._batcher.ready

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._model is not None

    def close(self) -> None:
        """No more work."""
        self._batcher.close()
        self._decoder.close()
        for threads in (self._decoding, self._reading, self._fetching):
            threads.shutdown(wait=True, cancel_futures=True)

    async def answer(self, request: Request, work: Callable[[Ask], Awaitable[Response]]) -> Response:
        """What `work` answers to a request whose body has not been read, within its time.

        Raises:
            ApiError: 503 the server has enough to do, 504 the time is over, or what `work` raises.
        """
        with contextlib.ExitStack() as until_answered:
            try:
                ask = until_answered.enter_context(self._admit(request))
            except ApiError:
                await discard_body(request)
                raise
            try:
                async with asyncio.timeout(self.limits.timeout):
                    return await work(ask)
            except TimeoutError:
                raise ask.job.late() from None
            except Gone:
                return Response(status_code=GONE)  # nobody reads it

    @contextlib.contextmanager
    def _admit(self, request: Request) -> Iterator[Ask]:
        announced, most = announced_bytes(request), self.limits.max_body_bytes
        with self._places.take(most if announced is None else min(announced, most)) as place:
            job: Job[tuple[int, Any]] = Job(self.limits.timeout, HINT)
            try:
                yield Ask(request, job, place)
            finally:
                job.leave()  # what is left of it is dropped

    async def embed(
        self,
        items: Sequence[Item],
        ask: Ask,
        *,
        num_frames: int = 8,
        templates: Templates = None,
        truncate: bool = False,
    ) -> list[Row]:
        """Embeddings float32 (D,) of length 1, in the order of the items.

        Args:
            items: of one request; texts only where the model has them.
            num_frames: taken from each video.
            templates: of the texts, as in `Perception.embed_texts`.
            truncate: cut texts that are longer than the model's context, instead of refusing them.

        Raises:
            ApiError: an item cannot be read, the time is over, or the server has too much to do.
            Gone: the client has left.
        """
        self._check_kinds(items)
        if any(isinstance(item, Address) for item in items):
            items = await self.fetched(items, ask)
        ask.place.add(self._amount(items, num_frames, templates))
        kinds = Counter(type(item).__name__.lower() for item in items)
        note(ask.request.scope, inputs=dict(kinds))
        texts = [(index, item) for index, item in enumerate(items) if isinstance(item, Text)]
        if texts:
            self._reading.submit(self._texts, ask, texts, templates, truncate)
        for index, item in enumerate(items):
            if isinstance(item, File):
                self._decoding.submit(self._decoded, ask.job, index, item, num_frames)
        rows: dict[int, Row] = {}
        with watched(ask.request, ask.job):
            while len(rows) < len(items):
                index, row = await ask.job.next()
                rows[index] = row
        return [rows[index] for index in range(len(items))]

    async def fetched(self, items: Sequence[Item], ask: Ask) -> list[Text | File]:
        """The same items, with files in the place of their addresses. They count as if they were in the body.

        Raises:
            ApiError: a file cannot be fetched, or is none that is read here.
            Gone: the client has left.
        """
        loop = asyncio.get_running_loop()

        async def one(item: Item) -> Text | File:
            if not isinstance(item, Address):
                return item
            file = await loop.run_in_executor(self._fetching, self._fetch, ask.job, item)
            ask.place.add(Amount(bodies=len(file.data)))
            return file

        with watched(ask.request, ask.job):
            return await asyncio.gather(*map(one, items))

    async def stretches(self, file: File, seconds: float) -> list[tuple[float, float]]:
        """A video's parts, each for a `File` of its own.

        Raises:
            ApiError: it cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoding, self._decoder.stretches, file, seconds)

    # In other threads

    def _texts(self, ask: Ask, texts: Sequence[tuple[int, Text]], templates: Templates, truncate: bool) -> None:
        """Counts tokens, and hands the texts on."""
        with _errors_to(ask.job):
            if ask.job.over() or self._tokenizer is None:
                return
            room = self._tokenizer.context_length - 2  # start and end
            for (_, item), ids in zip(texts, self._tokenizer.encode([item.text for _, item in texts]), strict=True):
                if len(ids) > room and not truncate:
                    raise ApiError(
                        400,
                        f"{item.place}: {len(ids)} tokens, the model reads {room}. Send a shorter text"
                        + (', or "truncate": true to have it cut' if item.place.startswith("input") else ""),
                        "context_length_exceeded",
                        item.place,
                    )
                ask.tokens += min(len(ids), room) + 2
            cost = len(templates or "x")
            pieces = [Piece(index, item.text, cost) for index, item in texts]
            self._batcher.submit(ask.job, Kind("text", templates), pieces)

    def _fetch(self, job: "Job[tuple[int, Any]]", item: Address) -> File:
        if job.over():
            raise Gone
        data = self._fetcher.fetch(item.url, item.place, self.limits.max_body_bytes)
        return checked_file(data, item.place, self.limits)

    def _decoded(self, job: "Job[tuple[int, Any]]", index: int, file: File, num_frames: int) -> None:
        with _errors_to(job):
            if not job.over():
                pixels = self._decoder.pixels(file, num_frames)
                self._batcher.submit(job, Kind("image"), [Piece(index, pixels, len(pixels))])

    def _work(self, kind: Kind, values: list[Any], size: int) -> Sequence[Row | Exception]:
        """One batch, in the model's thread."""
        if self._model is None:
            start = time.monotonic()
            self._model = self._loaded()
            LOGGER.warning("the model was loaded again in %.1f s", time.monotonic() - start)
        if kind.name == "text":
            rows = self._model.embed_texts(values, kind.detail)  # type: ignore[arg-type]
            return list(rows)
        found = self._model.embed_frames(values, batch_size=size)
        return [MidsightError("the encoder gives no finite embedding") if row is None else row for row in found]

    def _loaded(self) -> Perception:
        """The model, ready: what is done on first use is done now."""
        model = self._load()
        model.texts_kept = TEXTS_KEPT
        side = model.preprocess.image_size
        model.embed_images([np.zeros((side, side, 3), np.uint8)])
        if model.has_text:
            model.embed_texts("a photo")
        return model

    def _unload(self) -> None:
        LOGGER.warning("the model leaves the memory, as nobody asks")
        self._model = None
        frozen = gc.get_freeze_count() > 0
        gc.unfreeze()  # the model is in cycles, and was there when `run.server` froze what there was
        free_memory()
        if frozen:
            gc.freeze()
        trim()

    # Checks

    def _check_kinds(self, items: Sequence[Item]) -> None:
        text = next((item for item in items if isinstance(item, Text)), None)
        if text is not None and self.about.context_length is None:
            raise ApiError(
                400, f"{text.place}: {self.about.name} embeds pictures and videos only", "invalid_value", text.place
            )

    def _amount(self, items: Sequence[Item], num_frames: int, templates: Templates) -> Amount:
        texts = sum(isinstance(item, Text) for item in items) * len(templates or "x")
        videos = sum(isinstance(item, File) and item.is_video for item in items)
        frames = sum(not isinstance(item, Text) for item in items) + videos * (num_frames - 1)
        seconds = texts * self._batcher.seconds("text") + frames * self._batcher.seconds("image")
        return Amount(frames=frames, seconds=seconds)


@contextlib.contextmanager
def _errors_to(job: "Job[tuple[int, Any]]") -> Iterator[None]:
    """Whatever goes wrong in a thread is the request's answer."""
    try:
        yield
    except ApiError as error:
        job.put(error)
    except Exception:
        LOGGER.exception("an input could not be worked on")
        job.put(ApiError(500, "the server failed; its log says more", "internal_error"))


def _about(model: Perception) -> About:
    return About(
        name=model.name,
        dim=model.dim,
        preprocess=model.preprocess,
        context_length=model.context_length,
        logit_scale=model.logit_scale if model.has_text else None,
        identity=model.identity,
        device=model.device.type,
    )
