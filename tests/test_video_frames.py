"""Every frame of a video, one at a time."""

from pathlib import Path

import av
import numpy as np
import pytest

import midsight
from midsight.errors import InputError, MediaError
from midsight.video import VideoLimits, iter_frames, open_frames, probe, sample_frames

MEDIA = Path(__file__).parent / "media"
CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))


def test_all_frames_come_in_order() -> None:
    count = probe(CLIP).frames
    frames = list(iter_frames(CLIP))
    assert len(frames) == count
    expected = sample_frames(CLIP, count).frames
    np.testing.assert_array_equal(np.stack(frames), expected)
    with av.open(str(CLIP)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == count
    assert np.abs(decoded[-1].astype(int) - frames[-1]).mean() < 2


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"junk")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        next(iter_frames(tmp_path / "a.mp4"))


def test_each_third_frame_comes_with_its_time() -> None:
    path = MEDIA / "variable_rate.mkv"
    info = probe(path)
    every = sample_frames(path, info.frames)
    with open_frames(path, 3) as frames:
        found = list(frames)
    assert [frame.index for frame in found] == list(range(0, info.frames, 3))
    assert {frame.total for frame in found} == {len(found)}
    np.testing.assert_array_equal([frame.time for frame in found], every.times[::3])
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in found]), every.frames[::3])
    assert [frame.end for frame in found] == [*(frame.time for frame in found[1:]), info.duration]


def test_a_cut_video_gives_what_there_is() -> None:
    with open_frames(MEDIA / "cut.mp4") as frames:
        assert len(list(frames)) > 10
        assert frames.short_read
    with open_frames(CLIP) as frames:
        list(frames)
        assert not frames.short_read


def test_wrong_usage_and_limits_are_told() -> None:
    with pytest.raises(InputError, match="every must be at least 1"), open_frames(CLIP, 0):
        pass
    with pytest.raises(MediaError, match="more than 5 frames"), open_frames(CLIP, limits=VideoLimits(max_frames=5)):
        pass
