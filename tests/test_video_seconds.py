"""Frames as PerceptionLM takes them: about one a second, held against every frame of the file."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from midsight import video
from midsight.errors import InputError, MediaError
from midsight.video import MediaWarning, VideoLimits

MEDIA = Path(__file__).parent / "media"
TEMPLE = Path(__file__).parents[1] / "midsight" / "assets" / "demo" / "temple.mp4"  # 5 s and a bit, 25 frames a second


def every_frame(path: Path) -> tuple[npt.NDArray[np.uint8], list[float]]:
    with video.open_frames(path) as frames:
        pairs = [(frame.pixels, frame.time) for frame in frames]
    return np.stack([pixels for pixels, _ in pairs]), [time for _, time in pairs]


def assert_true(clip: video.Clip, path: Path) -> None:
    frames, times = every_frame(path)
    np.testing.assert_array_equal(clip.frames, frames[clip.indices])
    np.testing.assert_allclose(clip.times, np.array(times)[clip.indices], atol=1e-6)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(6, [0, 25, 50, 75, 100, 125]), (4, [0, 50, 75, 125]), (1, [0])],  # one a second; of these, evenly
)
def test_one_frame_a_second(most: int, expected: list[int]) -> None:
    clip = video.sample_seconds(TEMPLE, most)
    assert clip.indices.tolist() == expected
    assert (clip.start, clip.short_read) == (0.0, False)
    assert_true(clip, TEMPLE)


def test_where_one_a_second_would_be_too_few_all_are_thinned() -> None:
    clip = video.sample_seconds(TEMPLE, 8)
    total = len(every_frame(TEMPLE)[1])
    assert clip.indices.tolist() == [round(i * (total - 1) / 7) for i in range(8)]
    assert_true(clip, TEMPLE)


def test_a_part_of_the_video() -> None:
    clip = video.sample_seconds(TEMPLE, 2, start=1.0, end=3.0)
    assert clip.indices.tolist() == [25, 75]  # of 25, 50 and 75
    assert (clip.start, clip.end) == (1.0, 3.0)
    np.testing.assert_allclose(clip.times, [1.0, 3.0], atol=1e-3)
    assert_true(clip, TEMPLE)
    assert video.sample_seconds(TEMPLE, 40, start=4.9, end=99.0).indices.tolist()[0] == 122


@pytest.mark.parametrize(
    "name", ["variable_rate.mkv", "edit_list.mp4", "hidden_frames.webm", "no_count.mkv", "turned.mp4"]
)
def test_odd_files(name: str) -> None:
    """Indices count the frames that are there; times are theirs."""
    clip = video.sample_seconds(MEDIA / name, 5)
    total = len(every_frame(MEDIA / name)[1])
    assert clip.indices.tolist() == [round(i * (total - 1) / 4) for i in range(5)]
    assert_true(clip, MEDIA / name)


def test_short_videos_give_what_they_have() -> None:
    assert video.sample_seconds(MEDIA / "one_frame.mp4", 32).indices.tolist() == [0]
    clip = video.sample_seconds(MEDIA / "animation.gif", 32)
    assert clip.indices.tolist() == list(range(16))


def test_bytes_and_a_cut_file() -> None:
    of_bytes = video.sample_seconds((MEDIA / "b_frames.mp4").read_bytes(), 3)
    np.testing.assert_array_equal(of_bytes.frames, video.sample_seconds(MEDIA / "b_frames.mp4", 3).frames)
    with pytest.warns(MediaWarning, match="cut or broken"):
        clip = video.sample_seconds(MEDIA / "cut.mp4", 3)
    assert clip.short_read
    assert len(clip.indices) == 3


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="max_frames must be at least 1"):
        video.sample_seconds(TEMPLE, 0)
    with pytest.raises(InputError, match=r"temple.mp4: no frame after 9 s; the video ends at 5\.\d+ s"):
        video.sample_seconds(TEMPLE, start=9)
    with pytest.raises(MediaError, match="gone.mp4"):
        video.sample_seconds(MEDIA / "gone.mp4")
    with pytest.raises(MediaError, match="only sound"):
        video.sample_seconds(MEDIA / "audio_only.m4a")
    with pytest.raises(MediaError, match="limit"):
        video.sample_seconds(TEMPLE, limits=VideoLimits(max_seconds=1.0))
