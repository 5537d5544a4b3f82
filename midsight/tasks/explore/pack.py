"""Tokens and attention in few bytes, for a page that computes cosines itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ShapeError

Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

WORST_COSINE = 0.01  # how far a cosine of packed tokens may be from the true one
_ROOM = 0.006  # of it, for the directions that are left out; the rest is for rounding
_ROWS = 1024  # tokens compared at once


@dataclass(frozen=True)
class PackedTokens:
    """Unit tokens on their principal directions, each coordinate as a whole number: low + code * step.

    Attributes:
        low, step: float32 (K,).
        codes: uint8 (N, K) for each picture; uint16 where bytes were too coarse.
    """

    low: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32]
    codes: tuple[Codes, ...]

    def unpacked(self) -> list[Tensor]:
        """Tokens float32 (N, K) for each picture, whose dot products are the cosines."""
        return [torch.from_numpy(self.low + codes * self.step) for codes in self.codes]


def pack_tokens(tokens: Sequence[Tensor]) -> PackedTokens:
    """As few principal directions, and as few bits, as keep every cosine within `WORST_COSINE`.

    Args:
        tokens: float (N, C) for each picture, of any length; a zero token has cosine 0 to everything.

    Raises:
        ShapeError: no tokens, or tokens of different widths.
    """
    if not tokens or any(t.ndim != 2 or t.shape[1] != tokens[0].shape[1] or not t.numel() for t in tokens):
        raise ShapeError(f"expected tokens (N, C) of one width, got {[tuple(t.shape) for t in tokens]}")
    unit = F.normalize(torch.cat([t.double().cpu() for t in tokens]), dim=1)  # all tokens, C
    scores = _principal_scores(unit)
    left_out = (unit.square().sum(1, keepdim=True) - scores.square().cumsum(1)).amax(0)  # a cosine loses no more
    lengths = [len(t) for t in tokens]
    for room in (_ROOM, _ROOM / 2):
        packed = _rounded(_first(scores, left_out, room), lengths, np.uint8)
        if _error(unit.float(), torch.cat(packed.unpacked())) <= WORST_COSINE:
            return packed
    # Few directions, each over its whole range: bytes are too coarse, and two of them are not many.
    return _rounded(_first(scores, left_out, _ROOM), lengths, np.uint16)


def pack_attention(weights: Tensor) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Attention weights (N, N), queries in rows, as bytes and the largest weight of each row.

    A weight is (code / 255)^2 of its row's largest: most are small, and the square root gives them more of the codes.

    Returns:
        uint8 (N, N) and float32 (N,).
    """
    largest = weights.amax(dim=1)
    share = (weights / largest.clamp_min(1e-12)[:, None]).sqrt()
    return (share * 255).round().to(torch.uint8).cpu().numpy(), largest.float().cpu().numpy()


def _principal_scores(unit: Tensor) -> Tensor:
    """Coordinates of tokens (N, C) on their own principal directions, largest first: (N, min(N, C)).

    The directions pass through the origin, so that dot products stay what they are.
    """
    if len(unit) < unit.shape[1]:
        values, vectors = torch.linalg.eigh(unit @ unit.T)
        return (vectors * values.clamp_min(0).sqrt()).flip(1)
    return unit @ torch.linalg.eigh(unit.T @ unit)[1].flip(1)


def _first(scores: Tensor, left_out: Tensor, room: float) -> Tensor:
    """As many directions as leave out no more than `room`."""
    return scores[:, : int((left_out > room).sum()) + 1]


def _rounded(scores: Tensor, lengths: list[int], kind: type[np.uint8] | type[np.uint16]) -> PackedTokens:
    low, high = scores.amin(0), scores.amax(0)
    most = np.iinfo(kind).max
    step = (high - low).clamp_min(1e-12) / most
    codes = ((scores - low) / step).round().clamp(0, most).numpy()
    parts = np.split(codes.astype(kind), np.cumsum(lengths)[:-1])
    return PackedTokens(low.float().numpy(), step.float().numpy(), tuple(parts))


def _error(unit: Tensor, packed: Tensor) -> float:
    """The largest difference of a cosine."""
    return max(
        float((a @ unit.T - b @ packed.T).abs().max())
        for a, b in zip(unit.split(_ROWS), packed.split(_ROWS), strict=True)
    )
