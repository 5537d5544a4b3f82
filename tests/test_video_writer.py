"""Videos that are written: times, sizes, colours, and what a failure leaves."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from midsight import video
from midsight.errors import MediaError, OutputError, ShapeError

MEDIA = Path(__file__).parent / "media"


def smooth(height: int, width: int, shift: float = 0.0) -> np.ndarray:
    """A picture that survives compression and half the resolution of colours."""
    y, x = np.mgrid[:height, :width] / max(height, width, 100)
    waves = [128 + 100 * np.sin(3 * x + shift), 128 + 100 * np.cos(2 * y + shift), 60 + 120 * x * y]
    return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)


def read(path: Path) -> list[video.TimedFrame]:
    with video.open_frames(path) as frames:
        found = list(frames)
        assert not frames.short_read
    return found


def test_uneven_times_are_kept_and_so_is_the_end(tmp_path: Path) -> None:
    with video.open_frames(MEDIA / "variable_rate.mkv") as frames:
        source = list(frames)
    with video.write_video(tmp_path / "out.mp4") as writer:
        for frame in source:
            writer.add(frame.pixels, frame.time, frame.end)
        assert writer.frames == len(source)
    written = read(tmp_path / "out.mp4")
    np.testing.assert_allclose([f.time for f in written], [f.time for f in source], atol=1e-5)
    assert len(np.unique(np.diff([f.time for f in written]).round(3))) > 1, "the times are even: nothing was shown"
    assert written[-1].end == pytest.approx(source[-1].end, abs=1e-4)
    assert video.probe(tmp_path / "out.mp4").codec == "h264"


@pytest.mark.parametrize("size", [(120, 160), (121, 161), (16, 16), (1, 1), (2, 3000)])
def test_sizes_are_made_even_and_pictures_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = smooth(*size)
    with video.write_video(tmp_path / "out.mp4") as writer:
        for k in range(5):
            writer.add(picture, k / 10)
    (first, *others) = read(tmp_path / "out.mp4")
    assert len(others) == 4
    assert first.pixels.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    difference = first.pixels[: size[0], : size[1]].astype(float) - picture
    assert np.abs(difference).mean() < 3  # another colour matrix would be at 8


def test_players_can_show_it(tmp_path: Path) -> None:
    import av

    with video.write_video(tmp_path / "out.mp4") as writer:
        writer.add(smooth(64, 64), 0.0)
    with av.open(tmp_path / "out.mp4") as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)  # BT.709, limited


def test_a_frame_that_is_not_later_comes_right_behind(tmp_path: Path) -> None:
    with video.write_video(tmp_path / "out.mp4") as writer:
        for time in (0.0, 0.5, 0.5, 0.4, 1.0):
            writer.add(smooth(32, 32, time), time)
    times = [frame.time for frame in read(tmp_path / "out.mp4")]
    assert times == sorted(times)
    np.testing.assert_allclose(times, [0, 0.5, 0.5, 0.5, 1.0], atol=1e-4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_there_stays_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")
    with contextlib.suppress(error), video.write_video(tmp_path / "out.mp4") as writer:
        writer.add(smooth(32, 32), 0.0)
        raise error
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def written(path: Path, *frames: np.ndarray) -> None:
    with video.write_video(path) as writer:
        for number, frame in enumerate(frames):
            writer.add(frame, number)


def test_what_cannot_be_a_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(OutputError, match=r"out\.mp4: a video needs at least one frame"):
        written(path)
    with pytest.raises(ShapeError, match="64x32 in a video of 32x32"):
        written(path, smooth(32, 32), smooth(32, 64))
    with pytest.raises(ShapeError, match="uint8"):
        written(path, np.zeros((4, 4, 3), np.float32))
    with pytest.raises(MediaError, match="16384 pixels a side"):
        written(path, np.zeros((2, 20_000, 3), np.uint8))
    with pytest.raises(OutputError, match="does not exist"):
        written(tmp_path / "no" / "out.mp4", smooth(32, 32))
    assert not list(tmp_path.iterdir())
