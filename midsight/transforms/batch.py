"""Many pictures to batches of tensors: decoded by a few threads ahead of the model, in bounded memory, in order.

Threads and no processes: simplejpeg, Pillow and torch let go of Python's lock while they decode and resize, and threads
cost neither a start nor copies. A picture that cannot be read becomes a failure in its place; it never ends the stream.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.errors import InputError, MediaError, MidsightError
from midsight.files import available_cpus
from midsight.images import DEFAULT_LIMITS, Limits, Scratch, describe
from midsight.transforms.image import ImageTransform

Output = Literal["float32", "uint8"]
_local = threading.local()


@dataclass(frozen=True)
class Item:
    """What became of one source."""

    index: int  # place among all sources, from 0
    source: Any
    row: int | None  # of the batch's images; None where it failed
    error: MidsightError | None = None


@dataclass(frozen=True)
class Batch:
    """Consecutive sources, and the pictures that could be read, in the same order."""

    images: Tensor  # (B, 3, S, S); float32 normalised, or uint8
    items: tuple[Item, ...]  # one for each source; B of them have a row

    @property
    def failures(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.error is not None)


@dataclass(frozen=True)
class BatchOptions:
    """How batches are made.

    Args:
        batch_size: sources in a batch; the last one may have fewer.
        output: "float32" (B, 3, S, S), normalised; or "uint8", a quarter of the memory, to be normalised on a GPU.
        threads: that decode, ahead of the consumer; None is one for each CPU that is really available, at most 8;
            0 decodes in the caller's thread when a batch is asked for.
        ahead: batches that may be decoded or in the making while the consumer holds another one.
        reuse: give out the same memory again and again, because fresh pages cost more than filling them. A batch's
            images are then valid only until the next batch is asked for.
        limits: most pixels and bytes of a picture.
        reduced_decoding: see `midsight.images.load_image`.
    """

    batch_size: int = 32
    output: Output = "float32"
    threads: int | None = None
    ahead: int = 1
    reuse: bool = False
    limits: Limits = DEFAULT_LIMITS
    reduced_decoding: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.ahead < 0 or (self.threads is not None and self.threads < 0):
            raise InputError(f"batch_size must be at least 1, ahead and threads at least 0; got {self}")
        if self.output not in ("float32", "uint8"):
            raise InputError(f"output must be float32 or uint8, got {self.output!r}")


def load_batch(sources: Sequence[Any], preprocess: PreprocessConfig, options: BatchOptions | None = None) -> Batch:
    """All sources as one batch, whatever `options.batch_size` says.

    Args:
        sources: anything that `midsight.images.load_image` takes.
        preprocess: what the checkpoint expects.

    Raises:
        Nothing for a bad picture: its item carries the error.
    """
    options = options or BatchOptions()
    whole = Batch(_empty(0, preprocess, options.output), ())
    one = replace(options, batch_size=max(1, len(sources)), reuse=False)
    for batch in iterate_batches(sources, preprocess, one):
        whole = batch
    return whole


def iterate_batches(
    sources: Iterable[Any], preprocess: PreprocessConfig, options: BatchOptions | None = None
) -> Iterator[Batch]:
    """Batches of a list or a generator of any length, decoded in the background.

    No more than (ahead + 1) batches of sources are taken from the generator before their batch is given out, and it
    runs in the caller's thread. Closing the iterator, or an exception in the consumer, ends the threads.

    Args:
        sources: anything that `midsight.images.load_image` takes, each.
        preprocess: what the checkpoint expects.

    Yields:
        A Batch for every `batch_size` sources, in order; its images are empty where none could be read.
    """
    options = options or BatchOptions()
    transform = ImageTransform(preprocess, options.limits, options.reduced_decoding)
    threads = min(available_cpus(), 8) if options.threads is None else options.threads
    assemble = _Assembly(transform, options)
    numbered = enumerate(sources)
    if threads == 0:
        for group in _groups(numbered, options.batch_size):
            yield assemble([(i, s, _decode(transform, s)) for i, s in group])
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="midsight-decode") as pool:
        waiting: deque[list[tuple[int, Any, Future[Tensor | MidsightError]]]] = deque()
        try:
            for group in _groups(numbered, options.batch_size):
                waiting.append([(i, s, pool.submit(_decode, transform, s)) for i, s in group])
                if len(waiting) > options.ahead:
                    yield assemble([(i, s, f.result()) for i, s, f in waiting.popleft()])
            while waiting:
                yield assemble([(i, s, f.result()) for i, s, f in waiting.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _groups(numbered: Iterator[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    group: list[tuple[int, Any]] = []
    for entry in numbered:
        group.append(entry)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _decode(transform: ImageTransform, source: Any) -> Tensor | MidsightError:
    """uint8 (3, S, S), or why not. Each thread decodes into memory of its own, over and over."""
    scratch = getattr(_local, "scratch", None)
    if scratch is None:
        scratch = _local.scratch = Scratch()
    try:
        return transform.pixels(source, scratch)
    except MidsightError as error:
        return error
    except MemoryError:
        return MediaError(f"{describe(source)}: not enough memory to decode it.")


class _Assembly:
    """Puts decoded pictures together; normalises here, where torch's own threads are the consumer's."""

    def __init__(self, transform: ImageTransform, options: BatchOptions) -> None:
        self.transform = transform
        self.options = options
        self._kept: Tensor | None = None

    def __call__(self, decoded: list[tuple[int, Any, Tensor | MidsightError]]) -> Batch:
        items: list[Item] = []
        pictures: list[Tensor] = []
        for index, source, result in decoded:
            if isinstance(result, Tensor):
                items.append(Item(index, source, len(pictures)))
                pictures.append(result)
            else:
                items.append(Item(index, source, None, result))
        images = self._memory(len(pictures))
        for row, picture in enumerate(pictures):
            if self.options.output == "uint8":
                images[row].copy_(picture)
            else:
                self.transform.normalize(picture, out=images[row])
        return Batch(images, tuple(items))

    def _memory(self, count: int) -> Tensor:
        if not self.options.reuse:
            return _empty(count, self.transform.config, self.options.output)
        if self._kept is None or len(self._kept) < count:
            self._kept = _empty(count, self.transform.config, self.options.output)
        return self._kept[:count]


def _empty(count: int, preprocess: PreprocessConfig, output: Output) -> Tensor:
    shape = (count, 3, preprocess.image_size, preprocess.image_size)
    return torch.empty(shape, dtype=torch.float32 if output == "float32" else torch.uint8)
