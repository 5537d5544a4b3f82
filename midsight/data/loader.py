"""Batches for training: samples decoded and made to tensors in background threads, in an order that a state resumes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from midsight.data.datasets import Dataset
from midsight.data.samples import BadSample, Sample
from midsight.data.stream import Item, Order, Stream
from midsight.errors import ConfigError, MediaError
from midsight.images import Limits, Pixels, load_image
from midsight.video import Clip, MediaWarning, sample_frames

TRAINING_LIMITS = Limits(max_pixels=50_000_000)
"""A picture of 100 megapixels takes 300 MB in each worker and gives no more than a small one."""

Tokenizer = Callable[[list[str]], Tensor]  # B texts -> int64 (B, L)


class Transform(Protocol):
    """A picture or clip becomes the encoder's input; `midsight.transforms.augment.TrainTransform` is one.

    Called from several threads. `key` names the sample and the epoch: the same key gives the same tensor.
    """

    def __call__(self, source: Any, key: str = "") -> Tensor:
        """uint8 (H, W, 3) to float32 (3, S, S)."""

    def clip(self, frames: Pixels, key: str = "") -> Tensor:
        """uint8 (T, H, W, 3) to float32 (T, 3, S, S)."""


@dataclass(frozen=True)
class TrainBatch:
    """B samples. Either images or videos."""

    images: Tensor | None  # float32 (B, 3, S, S)
    videos: Tensor | None  # float32 (B, T, 3, S, S)
    texts: Tensor  # int64 (B, L)
    keys: tuple[str, ...]
    captions: tuple[str, ...]  # as they were written, without a template

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Ready:
    """A sample as tensors."""

    key: str
    caption: str
    text: str  # what the encoder reads: the caption, in a template if there are any
    pixels: Tensor  # float32 (3, S, S) or (T, 3, S, S)


@dataclass(frozen=True)
class Prepare:
    """What a worker does with an entry: read, decode, transform.

    Args:
        frames: of a clip; 0 for pictures. What is of the other kind is left out, and counted.
        templates: texts with "{c}" for the caption; each sample gets one, another in each epoch.
        seed: of these draws.
    """

    transform: Transform
    frames: int = 0
    limits: Limits = TRAINING_LIMITS
    templates: tuple[str, ...] = ("{c}",)
    seed: int = 0

    def __call__(self, item: Item) -> Ready:
        sample = item.read()
        key = f"{item.epoch}/{sample.key}"
        if self.frames:
            pixels = self.transform.clip(decode_clip(sample, self.frames), key)
        else:
            pixels = self.transform(decode_image(sample, self.limits), key)
        return Ready(sample.key, sample.caption, self._template(key).replace("{c}", sample.caption), pixels)

    def _template(self, key: str) -> str:
        digest = hashlib.blake2b(
            f"{self.seed}\0template\0{key}".encode(errors="surrogateescape"), digest_size=8
        ).digest()
        return self.templates[int.from_bytes(digest, "big") % len(self.templates)]


def decode_image(sample: Sample, limits: Limits = TRAINING_LIMITS) -> Pixels:
    """uint8 (H, W, 3).

    Raises:
        BadSample: it is a video, is missing, cannot be read, or has too many pixels.
    """
    if sample.kind != "image":
        raise BadSample("a video among pictures", f"{sample.key}: is a video, expected a picture.")
    try:
        return load_image(sample.media, limits=limits)
    except MediaError as error:
        # a sound picture can only fail by its size, which is told from the others by the message
        reason = "too many pixels" if "Limits.max_pixels" in str(error) else "unreadable picture"
        raise BadSample(reason, f"{sample.key}: {error}") from error


def decode_clip(sample: Sample, frames: int) -> Pixels:
    """uint8 (T, H, W, 3), as `read_clip`."""
    return read_clip(sample, frames).frames


def read_clip(sample: Sample, frames: int) -> Clip:
    """Evenly spaced frames with their times, first and last included.

    Raises:
        BadSample: it is a picture, is missing, cut, cannot be read, or is beyond the limits.
    """
    if sample.kind != "video":
        raise BadSample("a picture among videos", f"{sample.key}: is a picture, expected a video.")
    try:
        clip = sample_frames(sample.media, frames)
    except (MediaError, MediaWarning) as error:  # the warning where the user made warnings errors
        raise BadSample("unreadable video", f"{sample.key}: {error}") from error
    if clip.short_read:
        raise BadSample("unreadable video", f"{sample.key}: the video is cut or broken.")
    return clip


class Batches:
    """Batches of one process, without end unless the stream has one; the last incomplete batch is dropped.

    `state()` behind batch n resumes with batch n + 1.
    """

    def __init__(self, stream: Stream[Ready], tokenizer: Tokenizer, batch_size: int, *, pin: bool = False) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.stream, self.tokenizer, self.batch_size, self.pin = stream, tokenizer, batch_size, pin
        self._state = stream.state()

    def __iter__(self) -> Iterator[TrainBatch]:
        rows: list[Ready] = []
        for ready in self.stream:
            rows.append(ready)
            if len(rows) == self.batch_size:
                self._state = self.stream.state()
                batch = self._collate(rows)
                rows = []
                yield batch

    def _collate(self, rows: Sequence[Ready]) -> TrainBatch:
        pixels = torch.stack([row.pixels for row in rows])
        if self.pin:  # pinned memory goes to a GPU while the GPU works
            pixels = pixels.pin_memory()
        images, videos = (pixels, None) if pixels.ndim == 4 else (None, pixels)
        texts = self.tokenizer([row.text for row in rows])
        return TrainBatch(images, videos, texts, tuple(row.key for row in rows), tuple(row.caption for row in rows))

    def state(self) -> dict[str, Any]:
        """Where the stream stands behind the last batch that was taken; JSON."""
        return self._state

    @property
    def skipped(self) -> Mapping[str, int]:
        """Samples that were left out so far, by reason."""
        return self.stream.skipped


def batches(
    dataset: Dataset,
    transform: Transform,
    tokenizer: Tokenizer,
    batch_size: int,
    *,
    order: Order | None = None,
    frames: int = 0,
    workers: int = 2,
    epochs: int | None = None,
    limits: Limits = TRAINING_LIMITS,
    templates: Sequence[str] = ("{c}",),
    resume: dict[str, Any] | None = None,
    pin: bool = False,
) -> Batches:
    """Batches of a data set.

    Args:
        transform, tokenizer: of the model that is trained.
        batch_size: rows of this process.
        order: seed, and this process's share.
        frames: T of clips; 0 trains on pictures.
        workers: threads that read, decode and transform.
        epochs: None never ends.
        limits: of pictures.
        templates: as in `Prepare`.
        resume: what `state()` gave.
        pin: put the pixels where a GPU can fetch them.

    Raises:
        InputError: `resume` is of another data set or order.
        ConfigError: a batch size below 1.
    """
    prepare = Prepare(transform, frames, limits, tuple(templates), order.seed if order else 0)
    stream = dataset.stream(prepare, order, workers=workers, epochs=epochs)
    if resume is not None:
        stream.resume(resume)
    return Batches(stream, tokenizer, batch_size, pin=pin)
