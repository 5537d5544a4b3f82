"""Every frame of a video, one at a time."""

from pathlib import Path

import av
import numpy as np
import pytest

import midsight
from midsight.errors import MediaError
from midsight.video import iter_frames, probe, sample_frames

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
