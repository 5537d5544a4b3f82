"""Which place of one picture is which place of another one: nearest neighbours of tokens by cosine.

Pairs of tokens stay at the tokens' centres. A point is looked for between them, too, in the bilinearly enlarged map;
`python -m midsight.evaluate.points` measures what that gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError
from midsight.tasks.look import Point, check_points, token_centres
from midsight.tasks.similarity import nearest

Size = tuple[int, int]  # (H, W), pixels

STEPS = 8  # places tried between the centres of two tokens
CANDIDATES = 5  # tokens around which the best place for a point is looked for
_AT_ONCE = 16  # queries moved together: each asks 289 places of each candidate


@dataclass(frozen=True)
class Matches:
    """Pairs of places that belong together.

    Attributes:
        a, b: float32 (N, 2), x then y, pixels of the first and of the second picture.
        cosine: float32 (N,), of the features at the two places.
    """

    a: Tensor
    b: Tensor
    cosine: Tensor

    def __len__(self) -> int:
        return len(self.cosine)


def mutual_matches(a: Tensor, b: Tensor, size_a: Size, size_b: Size, count: int | None = None) -> Matches:
    """Tokens that are each other's nearest neighbours, the most alike pair first.

    Of more than `count` pairs those are kept that are the best of their part of the first picture, then the second
    best, and so on: the most alike tokens often lie all in one place.

    Args:
        a, b: float (C, h, w) each, maps of the two pictures, of any shapes.
        size_a, size_b: (H, W) of the pictures, pixels.
        count: pairs wanted; None is all of them.

    Returns:
        Matches, centres of tokens.

    Raises:
        ShapeError: not two maps of the same width.
        InputError: count below 1.
    """
    _check(a, b)
    if count is not None and count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    rows_a, rows_b = a.flatten(1).T, b.flatten(1).T  # N, C and M, C
    cosine, there = (found[:, 0] for found in nearest(rows_a, rows_b, k=1))
    back = nearest(rows_b, rows_a, k=1)[1][:, 0]
    mutual = (back[there] == torch.arange(len(there), device=there.device)).nonzero()[:, 0]
    places_a = token_centres(mutual, (a.shape[1], a.shape[2]), size_a)
    places_b = token_centres(there[mutual], (b.shape[1], b.shape[2]), size_b)
    kept = spread(places_a, cosine[mutual], size_a, count or max(1, len(mutual)))
    kept = kept[cosine[mutual][kept].argsort(descending=True, stable=True)]
    return Matches(places_a[kept].cpu(), places_b[kept].cpu(), cosine[mutual][kept].cpu())


def find_points(points: Sequence[Point], a: Tensor, b: Tensor, size_a: Size, size_b: Size) -> Matches:
    """Where places of the first picture lie in the second one; the pairs stay in the order of the points.

    Args:
        points: (x, y) in pixels of the first picture.
        a, b, size_a, size_b: as in `mutual_matches`.

    Raises:
        ShapeError: not two maps of the same width.
        InputError: no points, or one outside the first picture.
    """
    _check(a, b)
    if not points:
        raise InputError("name at least one point to look for")
    check_points(list(points), size_a, "the first picture")
    start = torch.tensor(points, dtype=torch.float32, device=a.device)
    asked = _sampled(F.normalize(a.float(), dim=0), start / start.new_tensor([size_a[1], size_a[0]]))  # P, C
    at, best = _moved(asked, b, nearest(asked, b.flatten(1).T, k=CANDIDATES)[1])
    return Matches(start.cpu(), (at * at.new_tensor([size_b[1], size_b[0]])).cpu(), best.cpu())


def spread(places: Tensor, scores: Tensor, size: Size, count: int) -> Tensor:
    """Indices of `count` places with high scores from all over a picture.

    The picture is cut into about `count` cells; the best place of each cell comes first, then the second best.

    Args:
        places: float (N, 2), x then y, pixels.
        scores: float (N,).
        size: (H, W) of the picture.
        count: places wanted; N where there are fewer.

    Returns:
        int64 (min(count, N),).
    """
    height, width = size
    columns = min(count, max(1, round((count * width / height) ** 0.5)))
    rows = -(-count // columns)
    cells = (places[:, 1] * rows / height).long() * columns + (places[:, 0] * columns / width).long()
    order = scores.argsort(descending=True, stable=True)
    order = order[cells[order].argsort(stable=True)]  # cell by cell, the best of each first
    lines = cells[order]
    starts = torch.searchsorted(lines, lines)  # where each one's cell begins
    rank = torch.arange(len(order), device=order.device) - starts
    by_score = scores[order].argsort(descending=True, stable=True)
    chosen: Tensor = order[by_score[rank[by_score].argsort(stable=True)]][:count]
    return chosen


def _moved(queries: Tensor, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The most alike places within one token around some tokens.

    Args:
        queries: float (P, C).
        maps: float (C, h, w).
        tokens: int64 (P, K), around which each query looks.

    Returns:
        float32 (P, 2), x then y in shares of the map's sides, and the cosines there (P,).
    """
    unit = F.normalize(maps.float(), dim=0)
    around = _neighbourhood(maps.device)  # S, 2
    grid = around.new_tensor([maps.shape[2], maps.shape[1]])
    places, cosines = [], []
    for asked, at in zip(F.normalize(queries.float(), dim=1).split(_AT_ONCE), tokens.split(_AT_ONCE), strict=True):
        centres = torch.stack([at % maps.shape[2], at // maps.shape[2]], dim=-1) + 0.5  # p, K, 2
        tried = ((centres[:, :, None] + around) / grid).clamp(0, 1).flatten(1, 2)  # p, K * S, 2
        found = _sampled(unit, tried.flatten(0, 1)).unflatten(0, tried.shape[:2])  # p, K * S, C
        likeness = (found @ asked[:, :, None]).squeeze(2)  # p, K * S
        best = likeness.argmax(dim=1, keepdim=True)
        places.append(tried.gather(1, best[:, :, None].expand(-1, -1, 2))[:, 0])
        cosines.append(likeness.gather(1, best)[:, 0])
    return torch.cat(places), torch.cat(cosines).clamp(-1, 1)


def _neighbourhood(device: torch.device) -> Tensor:
    """Offsets in tokens, (S, 2), nearest first, so that a map without variation moves nothing."""
    line = torch.arange(-STEPS, STEPS + 1, device=device) / STEPS
    offsets = torch.cartesian_prod(line, line)
    return offsets[offsets.norm(dim=1).argsort(stable=True)]


def _sampled(maps: Tensor, places: Tensor) -> Tensor:
    """Map (C, h, w) at places (P, 2) in shares of its sides, bilinear, the border repeated; unit rows (P, C)."""
    at = (places * 2 - 1)[None, None]  # 1, 1, P, 2
    found = F.grid_sample(maps[None], at, align_corners=False, padding_mode="border")[0, :, 0]  # C, P
    return F.normalize(found.T, dim=1)


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or not (a.numel() and b.numel()):
        raise ShapeError(f"expected maps (C, h, w) with the same C, got {tuple(a.shape)} and {tuple(b.shape)}")
