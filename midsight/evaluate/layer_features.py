"""One pass of the encoder over the pictures of a sweep: what each task keeps of every layer."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor

from midsight.ahead import read_ahead
from midsight.errors import InputError, MediaError
from midsight.evaluate.layer_store import Shape, StoreLimits, TokenStore
from midsight.tasks.features import DenseEncoder

Kept = Literal["mean", "mean_and_class", "tokens", "patches", "embedding"]
"""What is kept of a layer's tokens: their mean over the patches; that and the class token; all; the patches alone; the
model's own embedding, as if the tower ended there."""

Report = Callable[[str, int, int], None]  # what is being done, how much of it, of how much
_WORKERS, _AHEAD = 2, 16
_AT_ONCE = 1 << 30  # bytes of tokens of one batch
_FLUSH = 16  # batches


@dataclass(frozen=True)
class Pictures:
    """What is read: N pictures, and how."""

    count: int
    key: str  # another one for other pictures
    read: Callable[[int], tuple[Tensor, npt.NDArray[Any] | None]]  # uint8 (3, S, S) and, for dense tasks, (S, S)
    target_dtype: str = ""  # of the numbers; "" without


def no_report(what: str, done: int, of: int) -> None:
    """Says nothing."""


def compute(
    encoder: DenseEncoder,
    pictures: Pictures,
    size: int,
    keep: Kept,
    limits: StoreLimits,
    folder: Path | None = None,
    batch_size: int = 8,
    report: Report = no_report,
) -> TokenStore:
    """Features of all layers of the encoder, each picture through it once.

    Args:
        encoder: its layers are those of the result.
        size: S, pixels.
        folder: for features beyond the memory limit; work in it is gone on with.

    Raises:
        InputError: not one picture can be read, or features beyond the limits.
    """
    first = int(encoder.tower.use_cls_token)
    patches = (size // encoder.patch_size) ** 2
    wide = encoder.tower.output_dim if keep == "embedding" else None
    tokens = {"mean": 1, "mean_and_class": 1 + first, "tokens": first + patches, "patches": patches, "embedding": 1}
    target = size if pictures.target_dtype else 0
    shape = Shape(
        pictures.count, len(encoder.layers), tokens[keep], wide or encoder.width, target, pictures.target_dtype or "u1"
    )
    store = TokenStore(shape, limits, folder, pictures.key)
    at_once = len(encoder.layers) * (patches + first) * encoder.width * 4
    batch = max(1, min(batch_size, _AT_ONCE // at_once))
    _fill(store, encoder, pictures, keep, batch, report)
    if not store.good:
        raise InputError(
            f"not one of {pictures.count} pictures can be read; the first: {next(iter(store.bad.values()))}"
        )
    return store


def _fill(store: TokenStore, encoder: DenseEncoder, pictures: Pictures, keep: Kept, batch: int, report: Report) -> None:
    def read(number: int) -> Iterator[tuple[Tensor, npt.NDArray[Any] | None]]:
        yield pictures.read(number)

    report("features", store.done, pictures.count)
    left = range(store.done, pictures.count)
    with closing(read_ahead(left, read, workers=_WORKERS, inputs_ahead=_AHEAD)) as found:
        for round_, part in enumerate(iter(lambda: list(islice(found, batch)), []), start=1):
            bad = {number: _unreadable(result) for number, result in part if isinstance(result, Exception)}
            good = [(number, result) for number, result in part if not isinstance(result, Exception)]
            if good:
                rows = _encoded(encoder, torch.stack([pixels for _, (pixels, _) in good]), keep)  # B, L, T, W
                for row, (number, (_, target)) in zip(rows, good, strict=True):
                    store.write(number, row[None], None if target is None else target[None])
            done = part[-1][0] + 1
            if done == pictures.count or round_ % _FLUSH == 0:
                store.advance(done, bad)
            else:
                store.bad |= bad
            report("features", done, pictures.count)


def _unreadable(error: Exception) -> str:
    """The reason why a picture is left out; other errors end the sweep."""
    if not isinstance(error, MediaError):
        raise error
    return str(error)


@torch.no_grad()
def _encoded(encoder: DenseEncoder, pixels: Tensor, keep: Kept) -> Tensor:
    """uint8 (B, 3, S, S) to what is kept, float32 (B, L, T, W)."""
    layers = encoder.tokens(encoder.normalize(pixels.to(encoder.device)))
    return torch.stack([_kept(encoder, tokens, keep) for tokens in layers], dim=1)


def _kept(encoder: DenseEncoder, tokens: Tensor, keep: Kept) -> Tensor:
    first = int(encoder.tower.use_cls_token)
    if keep == "tokens":
        return tokens
    if keep == "patches":
        return tokens[:, first:]
    if keep == "embedding":
        return encoder.tower.embed_tokens(tokens)[:, None]
    mean = tokens[:, first:].mean(dim=1, keepdim=True)
    return torch.cat((mean, tokens[:, :first]), dim=1) if keep == "mean_and_class" else mean
