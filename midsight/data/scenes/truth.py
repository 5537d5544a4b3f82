"""Labels that follow from ids, depth and poses alone: boxes, masks, flow with visibility, tracks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from midsight.data.scenes.camera import Array
from midsight.data.scenes.meshes import Bytes, Floats
from midsight.data.scenes.render import Frame
from midsight.errors import InputError, ShapeError

Bools = npt.NDArray[np.bool_]
_INFINITE = 1e6  # metres: where the sky is
TOLERANCE = 0.03  # of the depth: two surfaces closer than this count as one


def masks(ids: Bytes, count: int) -> Bools:
    """The visible pixels of items 1 to `count`, bool (count, S, S)."""
    return np.asarray(ids[None] == np.arange(1, count + 1, dtype=np.int64)[:, None, None])


def boxes_xyxy(ids: Bytes, count: int) -> Floats:
    """The extent of each mask, float32 (count, 4): left, top, right, bottom in pixels, ends exclusive; 0 if unseen."""
    boxes = np.zeros((count, 4), dtype=np.float32)
    for k, mask in enumerate(masks(ids, count)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def flow(a: Frame, b: Frame) -> tuple[Floats, Bools]:
    """Where each pixel of `a` is in `b`, by the camera's motion and the objects' own.

    Returns:
        Displacement in pixels, float32 (S, S, 2), x then y; and whether the same point is seen in `b`, bool (S, S).

    Raises:
        ShapeError: frames of different sizes or numbers of items.
    """
    side = a.ids.shape[0]
    rows, columns = np.mgrid[:side, :side]
    pixels = np.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    moved, visible = carry(a, b, pixels)
    return (moved - pixels).reshape(side, side, 2).astype(np.float32), visible.reshape(side, side)


def carry(a: Frame, b: Frame, pixels: Array) -> tuple[Array, Bools]:
    """Where the surface points at pixel positions (N, 2) of `a` are in `b`: float64 (N, 2), and visibility (N,).

    Visible: inside the picture, the same item there, and its depth within 3 % of the point's own. Points on surfaces
    seen at a grazing angle can fail the last test although they are seen.

    Raises:
        ShapeError: frames of different sizes or numbers of items.
    """
    if a.ids.shape != b.ids.shape or len(a.poses) != len(b.poses):
        raise ShapeError(f"two frames of one scene expected; got {a.ids.shape} with {len(a.poses)} items and "
                         f"{b.ids.shape} with {len(b.poses)}")  # fmt: skip
    column, row = _cells(pixels, a.ids.shape[0])
    item, depth = a.ids[row, column], a.depth[row, column].astype(np.float64)
    points = a.camera.unproject(pixels, np.where(depth > 0, depth, _INFINITE))
    for k, (before, after) in enumerate(zip(a.poses, b.poses, strict=True), start=1):
        here = item == k
        motion = after @ np.linalg.inv(before)
        points[here] = points[here] @ motion[:3, :3].T + motion[:3, 3]
    moved, z = b.camera.project(points)
    side = b.ids.shape[0]
    inside = (z > 0) & (moved >= 0).all(1) & (moved < side).all(1)
    column, row = _cells(np.where(inside[:, None], moved, 0.0), side)
    there = b.depth[row, column]
    near = np.where(depth > 0, np.abs(there - z) < TOLERANCE * z, there == 0)
    return moved, np.asarray(inside & (b.ids[row, column] == item) & near)


def query_points(frame: Frame, count: int, seed: int) -> Array:
    """Pixel centres to track, float64 (count, 2): half on the surroundings, half shared among the items seen.

    Raises:
        InputError: no pixel of the frame has a surface.
    """
    rng = np.random.default_rng(seed)
    solid = frame.depth > 0
    seen = [int(k) for k in np.unique(frame.ids[solid])]
    if not seen:
        raise InputError("the frame shows nothing but sky: there is no point to track")
    weights = np.array([0.5 if k == 0 else 0.5 / max(len(seen) - (0 in seen), 1) for k in seen])
    points = []
    for k in rng.choice(seen, count, p=weights / weights.sum()):
        rows, columns = np.nonzero(solid & (frame.ids == k))
        pick = rng.integers(len(rows))
        points.append((columns[pick] + 0.5, rows[pick] + 0.5))
    return np.array(points, dtype=np.float64)


def tracks(frames: Sequence[Frame], points: Array) -> tuple[Floats, Bools]:
    """Points (N, 2) of the first frame, followed: positions float32 (T, N, 2) and visibility bool (T, N)."""
    carried = [carry(frames[0], frame, points) for frame in frames]
    return np.stack([at for at, _ in carried]).astype(np.float32), np.stack([seen for _, seen in carried])


def _cells(pixels: Array, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    cells = np.clip(np.floor(pixels).astype(np.int64), 0, side - 1)
    return cells[:, 0], cells[:, 1]
