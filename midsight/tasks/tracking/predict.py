"""Label propagation: the labels of a video's first frame carried on by likeness of features, without training.

Source: PE paper, B.3.3, which names DINO's evaluation of video segmentation; the defaults are DINO's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ConfigError, ShapeError
from midsight.pe import linear

_SIDES = (8, 12, 16, 24, 32)  # tokens, of the tiles that are tried
_COPY = 40  # what fetching a key costs, in products with a query; measured on a CPU
_TILE = {"cpu": 2**22}  # what a tile costs by itself, in multiply-adds
_TILE_ELSEWHERE = 2**30


@dataclass(frozen=True)
class PropagationConfig:
    """Which tokens a token reads from, and how sharply. The defaults are those of DINO's evaluation."""

    context: int = 7  # frames before the present one that are read from, beside the first frame
    radius: int = 12  # tokens: half the side of the square neighbourhood, without its centre
    topk: int = 5  # tokens that count, the most alike of all frames together
    temperature: float = 0.1  # of the softmax over cosines

    def __post_init__(self) -> None:
        if self.context < 0 or self.radius < 0 or self.topk < 1:
            raise ConfigError(f"context and radius must be at least 0 and topk at least 1, got {self}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")


DEFAULT = PropagationConfig()


def propagate(
    features: Tensor,
    first_mask: Tensor,
    context: int = DEFAULT.context,
    radius: int = DEFAULT.radius,
    topk: int = DEFAULT.topk,
    temperature: float = DEFAULT.temperature,
) -> Tensor:
    """Masks of a whole video, from the mask of its first frame.

    Frame t reads from frame 0 and from the `context` frames before it: each of its tokens takes the `topk` most alike
    tokens among those that lie within `radius` rows and columns of its place in any of these frames, and the mean of
    their masks, weighted by exp(cosine / temperature).

    Args:
        features: float (T, C, h, w), one map for each frame, of any length.
        first_mask: float (K, h, w), soft or one-hot; a channel for each label.

    Returns:
        float32 (T, K, h, w), the first of them `first_mask`.

    Raises:
        ShapeError: features or mask of another shape or dtype, or of grids that differ.
        ConfigError: settings that cannot be.

    Source: DINO's evaluation of video segmentation on DAVIS.
    """
    if features.ndim != 4 or not len(features):
        raise ShapeError(f"expected features (T, C, h, w) of at least one frame, got {tuple(features.shape)}")
    config = PropagationConfig(context, radius, topk, temperature)
    return torch.stack(list(propagate_stream(features, first_mask, config)))


def propagate_stream(
    features: Iterable[Tensor], first_mask: Tensor, config: PropagationConfig = DEFAULT
) -> Iterator[Tensor]:
    """As `propagate`, frame by frame: a mask comes out for each map that goes in.

    Memory holds the first frame and `config.context` frames, however long the video is. A map may be overwritten once
    its mask is out.

    Args:
        features: maps float (C, h, w), all alike; the first one is that of `first_mask`.
        first_mask: float (K, h, w).

    Yields:
        float32 (K, h, w), the first of them `first_mask`.

    Raises:
        ShapeError: a map or mask of another shape or dtype than the first ones.
    """
    if first_mask.ndim != 3 or not first_mask.numel():
        raise ShapeError(f"expected a first mask (K, h, w), got {tuple(first_mask.shape)}")
    past: _Past | None = None
    for number, frame in enumerate(features):
        tokens = _tokens(frame, first_mask, number)
        if past is None:
            past = _Past(tokens, first_mask, config)
            yield first_mask.detach().float()
            continue
        mask = past.read(tokens)
        past.append(tokens, mask)
        yield mask.movedim(-1, 0)


@torch.no_grad()
def _tokens(frame: Tensor, first_mask: Tensor, number: int) -> Tensor:
    """A map (C, h, w) as unit vectors (h, w, C): each frame is normalised once."""
    if frame.ndim != 3 or not frame.is_floating_point():
        raise ShapeError(f"frame {number}: expected a map float (C, h, w), got {frame.dtype} {tuple(frame.shape)}")
    if frame.shape[1:] != first_mask.shape[1:]:
        raise ShapeError(
            f"frame {number}: the map has {frame.shape[1]} x {frame.shape[2]} tokens, the first mask "
            f"{first_mask.shape[1]} x {first_mask.shape[2]}. Bring the mask to the grid of the features."
        )
    return F.normalize(frame.float().movedim(0, -1), dim=-1).contiguous()  # h, w, C


class _Past:
    """The frames that may be read from, in a ring: slot 0 is the first frame and stays."""

    def __init__(self, tokens: Tensor, mask: Tensor, config: PropagationConfig) -> None:
        height, width, channels = tokens.shape
        self.config, self.seen = config, 1
        self.keys = tokens.new_empty(config.context + 1, height, width, channels)
        self.masks = tokens.new_empty(config.context + 1, height, width, len(mask))
        self.keys[0], self.masks[0] = tokens, mask.detach().to(tokens).movedim(0, -1)
        self.tiles = _tiles(height, width, config.radius, channels, tokens.device)

    def append(self, tokens: Tensor, mask: Tensor) -> None:
        """A frame with its mask (h, w, K), in place of the oldest one but the first."""
        if tokens.shape != self.keys.shape[1:]:
            raise ShapeError(f"frame {self.seen}: the map has {tokens.shape[-1]} channels, not {self.keys.shape[-1]}")
        if self.config.context:
            slot = 1 + (self.seen - 1) % self.config.context
            self.keys[slot], self.masks[slot] = tokens, mask
        self.seen += 1

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """The mask (h, w, K) of a frame (h, w, C)."""
        if tokens.shape != self.keys.shape[1:]:
            raise ShapeError(f"frame {self.seen}: the map has {tokens.shape[-1]} channels, not {self.keys.shape[-1]}")
        known = min(self.seen, self.config.context + 1)
        found = self.masks.new_empty(self.masks.shape[1:])
        for tile in self.tiles:
            window = (slice(0, known), *tile.window)
            keys = self.keys[window].flatten(0, 2).contiguous()  # n M, C
            masks = self.masks[window].flatten(0, 2)  # n M, K
            queries = tokens[tile.queries].flatten(0, 1).contiguous()  # Q, C
            values, places = _most_alike(queries, keys, tile.outside, self.config.topk)
            weights = (values / self.config.temperature).softmax(dim=1)  # Q, k
            mixed = torch.einsum("qk,qkc->qc", weights, masks[places])
            found[tile.queries] = mixed.view(found[tile.queries].shape)
        return found


def _most_alike(queries: Tensor, keys: Tensor, outside: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The largest products of each query with the keys of all frames.

    The best of all frames at each place come first, then the best places: the k largest products lie at k of the
    places whose best products are largest. So most of the work sees one number a place, not one a frame and place.

    Args:
        queries: (Q, C).
        keys: (n M, C), the same M places in n frames.
        outside: (Q, M), -inf where a place is beyond the query's neighbourhood, else 0.

    Returns:
        Products (Q, k), -inf where there were fewer than k places, and their indices among all n M keys.
    """
    count = outside.shape[1]
    products = _products(keys, queries).unflatten(0, (-1, count))  # n, M, Q
    best = products.amax(dim=0).T + outside  # Q, M
    places = best.topk(min(topk, count), dim=1, sorted=False).indices  # Q, k
    candidates = products.gather(1, places.T.expand(len(products), -1, -1)) + outside.gather(1, places).T  # n, k, Q
    flat = candidates.flatten(0, 1).T  # Q, n k
    values, chosen = flat.topk(min(topk, flat.shape[1]), dim=1, sorted=False)
    kept = places.shape[1]
    return values, chosen // kept * count + places.gather(1, chosen % kept)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """a bT: (M, C) and (Q, C) to (M, Q), float32."""
    return linear.product(a, b) if a.device.type == "cpu" and linear.available() else a @ b.T


@dataclass(frozen=True)
class _Tile:
    """Some rows and columns of queries, and the rows and columns that any of them may read from."""

    queries: tuple[slice, slice]
    window: tuple[slice, slice]
    outside: Tensor  # Q, M


@lru_cache(maxsize=8)
def _tiles(height: int, width: int, radius: int, channels: int, device: torch.device) -> tuple[_Tile, ...]:
    """The grid cut into tiles of the size that costs least: small ones look at few keys in vain, but fetch more."""
    alone = _TILE.get(device.type, _TILE_ELSEWHERE)

    def cost(sides: tuple[int, int]) -> int:
        rows, columns = _cuts(height, sides[0], radius), _cuts(width, sides[1], radius)
        sizes = [(_area(r[0], c[0]), _area(r[1], c[1])) for r in rows for c in columns]
        return sum(keys * (queries + _COPY) * channels + alone for queries, keys in sizes)

    down, across = min(((a, b) for a in _SIDES for b in _SIDES), key=cost)
    return tuple(
        _Tile((r[0], c[0]), (r[1], c[1]), _outside(r, c, radius).to(device))
        for r in _cuts(height, down, radius)
        for c in _cuts(width, across, radius)
    )


def _cuts(length: int, side: int, radius: int) -> list[tuple[slice, slice]]:
    """An axis in equal pieces of about `side`, each with what lies within `radius` of it."""
    pieces = -(-length // side)
    ends = [length * k // pieces for k in range(pieces + 1)]
    return [
        (slice(a, b), slice(max(0, a - radius), min(length, b + radius)))
        for a, b in zip(ends, ends[1:], strict=False)
    ]  # fmt: skip


def _area(rows: slice, columns: slice) -> int:
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _outside(rows: tuple[slice, slice], columns: tuple[slice, slice], radius: int) -> Tensor:
    """-inf where a key (M) lies beyond the neighbourhood of a query (Q), else 0."""
    far_rows, far_columns = (
        (torch.arange(own.start, own.stop)[:, None] - torch.arange(seen.start, seen.stop)).abs() > radius
        for own, seen in (rows, columns)
    )
    far = far_rows[:, None, :, None] | far_columns[None, :, None, :]  # rows and columns of queries, then of keys
    return torch.zeros(far.shape).masked_fill_(far, float("-inf")).flatten(2).flatten(0, 1)
