"""Boxes, flow and tracks against the pictures themselves: what is warped must look and be the same."""

import itertools

import numpy as np
import pytest

from midsight.data.scenes import SceneClip, SceneEngine
from midsight.data.scenes.render import Frame
from midsight.data.scenes.truth import boxes_xyxy, carry, flow, masks, query_points, tracks
from midsight.errors import InputError, ShapeError


@pytest.fixture(scope="module")
def clips(engine: SceneEngine) -> list[SceneClip]:
    return [engine.clip(index) for index in range(8)]


def test_boxes_are_the_extent_of_the_masks() -> None:
    ids = np.zeros((20, 20), dtype=np.uint8)
    ids[3:7, 5:11] = 1
    ids[8, 19] = 3
    assert boxes_xyxy(ids, 3).tolist() == [[5, 3, 11, 7], [0, 0, 0, 0], [19, 8, 20, 9]]
    assert [int(mask.sum()) for mask in masks(ids, 3)] == [24, 0, 1]


def test_boxes_of_rendered_objects(clips: list[SceneClip]) -> None:
    for clip in clips:
        for one in clip.seen:
            rows, columns = np.nonzero(clip.frames[0].ids == one.id)
            assert one.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert one.area == len(rows)


def warped(a: Frame, b: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pixels of `a` are seen in `b`, and the columns and rows there."""
    vector, visible = flow(a, b)
    rows, columns = np.mgrid[: len(a.ids), : len(a.ids)]
    at = np.floor(np.stack([columns, rows], -1) + 0.5 + vector).astype(int)
    return visible, at[..., 0][visible], at[..., 1][visible]


def test_warping_gives_the_same_ids_and_colours(clips: list[SceneClip]) -> None:
    """First against last frame: cameras and objects have moved, and yet each visible pixel finds itself again."""
    shares, errors, unmoved = [], [], []
    for clip in clips:
        a, b = clip.frames[0], clip.frames[-1]
        visible, column, row = warped(a, b)
        assert np.array_equal(a.ids[visible], b.ids[row, column])
        shares.append(visible.mean())
        errors.append(np.abs(a.rgb[visible].astype(int) - b.rgb[row, column]).mean())
        unmoved.append(np.abs(a.rgb.astype(int) - b.rgb).mean())
    assert np.median(shares) > 0.5
    assert np.mean(unmoved) > 8
    assert np.mean(errors) < 0.5 * np.mean(unmoved)


def test_flow_there_and_back_again(clips: list[SceneClip]) -> None:
    for clip in clips:
        a, b = clip.frames[1], clip.frames[2]
        side = len(a.ids)
        rows, columns = np.mgrid[:side, :side]
        start = np.stack([columns, rows], -1).reshape(-1, 2) + 0.5
        there, seen = carry(a, b, start)
        back, _ = carry(b, a, there[seen])
        assert np.median(np.linalg.norm(back - start[seen], axis=1)) < 0.1
        assert np.percentile(np.linalg.norm(back - start[seen], axis=1), 95) < 1.0


def test_flow_of_the_same_frame_is_zero_and_all_is_visible(clips: list[SceneClip]) -> None:
    vector, visible = flow(clips[0].frames[0], clips[0].frames[0])
    assert np.abs(vector).max() < 1e-3
    assert visible.all()


def test_a_moving_object_carries_its_points(clips: list[SceneClip]) -> None:
    checked = 0
    for clip in clips:
        movers = [k for k, placed in enumerate(clip.scene.objects, start=1) if placed.motion]
        if not movers or clip.scene.move != "still":
            continue
        vector, _ = flow(clip.frames[0], clip.frames[-1])
        ids = clip.frames[0].ids
        assert np.abs(vector[~np.isin(ids, movers)]).max() < 1e-3  # nothing else moves
        assert np.linalg.norm(vector[np.isin(ids, movers)], axis=1).max() > 2
        checked += 1
    assert checked > 0


def test_tracks_are_the_flow_followed(clips: list[SceneClip]) -> None:
    clip = clips[0]
    points = query_points(clip.frames[0], 40, seed=1)
    assert np.array_equal(points, query_points(clip.frames[0], 40, seed=1))
    where, visible = tracks(clip.frames, points)
    assert where.shape == (5, 40, 2)
    assert visible[0].all()
    np.testing.assert_allclose(where[0], points, atol=1e-3)
    column, row = np.floor(points).astype(int).T
    for k, (vector, seen) in enumerate(flow(clip.frames[0], frame) for frame in clip.frames):
        np.testing.assert_allclose(where[k], points + vector[row, column], atol=1e-2)
        assert np.array_equal(visible[k], seen[row, column])
    items = clip.frames[0].ids[row, column]
    for before, (frame, at, seen) in itertools.pairwise(zip(clip.frames, where, visible, strict=True)):
        assert before is not None
        x, y = np.floor(at[seen]).astype(int).T
        assert np.array_equal(frame.ids[y, x], items[seen])


def test_what_does_not_belong_together_is_refused(clips: list[SceneClip]) -> None:
    other = next(clip for clip in clips if len(clip.scene.objects) != len(clips[0].scene.objects))
    with pytest.raises(ShapeError, match="one scene"):
        flow(clips[0].frames[0], other.frames[0])
    frame = clips[0].frames[0]
    empty = Frame(frame.rgb, frame.ids * 0, frame.depth * 0, frame.normals, frame.albedo, frame.camera, frame.poses)
    with pytest.raises(InputError, match="sky"):
        query_points(empty, 3, seed=0)
