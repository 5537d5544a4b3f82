"""Pairs of media and captions from a table or a folder per class, as the loop takes them: in an order that follows from
the seed alone, resumable at the exact sample, and with every sample that cannot be used counted by its reason."""

import csv
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight.errors import InputError, MidsightError
from midsight.images import IMAGE_SUFFIXES
from midsight.train.config import TrainConfig, preprocess_of
from midsight.train.distributed import World
from midsight.transforms import get_text_tokenizer
from midsight.transforms.augment import TrainTransform
from midsight.video import VIDEO_SUFFIXES, sample_frames

_MEDIA, _CAPTION = ("path", "image", "video", "file"), ("caption", "text")
_OF_A_CLASS = "a photo of a {}."


@dataclass(frozen=True)
class MediaPair:
    """One sample: a file and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class TrainBatch:
    """Rows of one process; images or videos, the other is None."""

    images: Tensor | None  # float32 (B, 3, S, S)
    videos: Tensor | None  # float32 (B, T, 3, S, S)
    texts: Tensor  # int64 (B, L)
    keys: tuple[str, ...]


def read_pairs(source: str | Path) -> list[MediaPair]:
    """All pairs that a file or a folder names; files are not opened.

    Args:
        source: a CSV or JSONL file with a column "path" (or "image", "video", "file", relative to the table) and
            "caption" (or "text"); or a folder with one folder of media for each class, captioned by its name.

    Raises:
        InputError: nothing readable there, or columns that are missing.
    """
    place = Path(source)
    if place.is_dir():
        pairs = [
            MediaPair(path, _OF_A_CLASS.format(folder.name.replace("_", " ")))
            for folder in sorted(p for p in place.iterdir() if p.is_dir())
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        ]
    else:
        pairs = [_pair(row, place, number) for number, row in enumerate(_rows(place), start=1)]
    if len(pairs) < 2:
        raise InputError(f"{source}: holds {len(pairs)} pairs; expected a table of them, or folders of classes")
    return pairs


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            if table.suffix.lower() in (".jsonl", ".ndjson"):
                return [json.loads(line) for line in file if line.strip()]
            return list(csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ","))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{table}: not a readable table ({error}); expected CSV or JSONL") from error


def _pair(row: dict[str, Any], table: Path, number: int) -> MediaPair:
    path = next((row[key] for key in _MEDIA if row.get(key)), None)
    if path is None or not any(key in row for key in _CAPTION):
        raise InputError(
            f"{table}, row {number}: has {', '.join(map(str, row))}; expected one of {', '.join(_MEDIA)} and one of "
            f"{', '.join(_CAPTION)}"
        )
    return MediaPair(table.parent / path, str(next((row[key] for key in _CAPTION if row.get(key)), "")).strip())


class PairSource:
    """The data of a run, opened at each of its resolutions."""

    def __init__(self, config: TrainConfig, context_length: int, skipped: Callable[[str, str], None] | None = None):
        """
        Args:
            config: resolved; `data.source` says where the pairs are.
            context_length: of the text tower.
            skipped: called with the key and the reason of each sample that cannot be used.

        Raises:
            InputError: as `read_pairs`.
        """
        self.config, self.pairs = config, read_pairs(config.data.source)
        self.tokenizer = get_text_tokenizer(context_length)
        self.skipped = skipped

    @property
    def fingerprint(self) -> str:
        """Of all captions, paths and sizes of files, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            size = pair.path.stat().st_size if pair.path.is_file() else -1
            digest.update(json.dumps([pair.path.name, pair.caption, size]).encode())
        return digest.hexdigest()[:16]

    def open(self, image_size: int, rows: int, here: World, resume: dict[str, Any] | None) -> "PairBatches":
        """The batches of one process; see `midsight.train.loop.Source`."""
        augment = self.config.augment if self.config.steps.augment else None
        transform = TrainTransform(preprocess_of(image_size), augment)
        return PairBatches(self, transform, rows, here, resume or {})


class PairBatches:
    """An endless stream of batches; each process has every `size`-th sample of the common order."""

    def __init__(
        self, source: PairSource, transform: TrainTransform, rows: int, here: World, resume: dict[str, Any]
    ) -> None:
        self.source, self.transform, self.rows, self.here = source, transform, rows, here
        self.position = int(resume.get("position", 0))  # samples of this process that are used or left out
        self.reasons = Counter(resume.get("skipped", {}))
        self._orders: dict[int, list[int]] = {}

    def state(self) -> dict[str, Any]:
        """Behind the last batch that was taken."""
        return {"position": self.position, "skipped": dict(self.reasons)}

    def __iter__(self) -> Iterator[TrainBatch]:
        """
        Raises:
            InputError: a whole round through the data brought no usable sample.
        """
        ahead: deque[tuple[int, Future[tuple[str, Tensor, Tensor]]]] = deque()
        coming, in_vain = self.position, 0
        pool = ThreadPoolExecutor(max(1, self.source.config.data.workers))
        try:
            while True:
                taken: list[tuple[str, Tensor, Tensor]] = []
                while len(taken) < self.rows:
                    while len(ahead) < 2 * self.rows:
                        ahead.append((coming, pool.submit(self._load, *self._place(coming))))
                        coming += 1
                    place, future = ahead.popleft()
                    self.position = place + 1
                    try:
                        taken.append(future.result())
                        in_vain = 0
                    except MidsightError as error:
                        self._skip(place, error)
                        in_vain += 1
                    if in_vain > len(self.source.pairs):
                        raise InputError(
                            f"{self.source.config.data.source}: no usable sample in a whole round; left out were "
                            + ", ".join(f"{count} ({reason})" for reason, count in self.reasons.items())
                        )
                yield self._batch(taken)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, taken: list[tuple[str, Tensor, Tensor]]) -> TrainBatch:
        media, texts = torch.stack([row[1] for row in taken]), torch.stack([row[2] for row in taken])
        keys = tuple(row[0] for row in taken)
        return TrainBatch(None, media, texts, keys) if media.ndim == 5 else TrainBatch(media, None, texts, keys)

    def _place(self, position: int) -> tuple[int, int]:
        """Epoch and number of the pair at a position of this process."""
        pairs = self.source.pairs
        epoch, place = divmod(position * self.here.size + self.here.rank, len(pairs))
        if epoch not in self._orders:
            seed = self.source.config.seed * 1_000_003 + epoch
            order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1} | {epoch: order}
        return epoch, self._orders[epoch][place]

    def _load(self, epoch: int, number: int) -> tuple[str, Tensor, Tensor]:
        pair, config = self.source.pairs[number], self.source.config
        if not pair.caption:
            raise InputError(f"{pair.path}: has no caption")
        transform = replace(self.transform, seed=config.seed * 1_000_003 + epoch)
        key = str(pair.path)
        if config.data.frames:
            media = transform.clip(sample_frames(pair.path, config.data.frames).frames, key)
        else:
            media = transform(pair.path, key)
        return key, media, self.source.tokenizer(pair.caption)[0]

    def _skip(self, position: int, error: MidsightError) -> None:
        _, number = self._place(position)
        pair = self.source.pairs[number]
        self.reasons["no caption" if not pair.caption else type(error).__name__] += 1
        if self.source.skipped is not None:
            self.source.skipped(str(pair.path), str(error))
