"""Video: every frame that comes out is compared with PyAV's full decoding of the same file."""

import io
import itertools
import os
import random
import sys
import types
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from midsight import video
from midsight.errors import ConfigError, InputError, MediaError, MissingDependencyError
from midsight.video import MediaWarning, VideoLimits, torchcodec
from midsight.video.reader import Reader
from midsight.video.source import open_source

MILLISECOND = Fraction(1, 1000)
MEDIA = Path(__file__).parent / "media"
WHOLE = [
    *("b_frames.mp4", "edit_list.mp4", "rotated.mp4", "bt709.mp4", "turned.mp4", "fragments.mp4"),
    "gradual_refresh.mp4",
    *("variable_rate.mkv", "no_count.mkv", "hevc_10bit.mp4", "odd_size.webm", "hidden_frames.webm", "open_groups.ts"),
    *("program.mpg", "declared_count.avi", "animation.gif", "one_frame.mp4"),
]
CUT = ["cut.mp4", "cut.mkv"]
NO_PICTURES = ["audio_only.m4a", "cover_picture.m4a", "no_frames.mkv"]


def decode_all(path: Path) -> tuple[list[npt.NDArray[np.uint8]], list[float]]:
    """The truth: all frames, upright, with their times after the first one."""
    frames, times = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.is_corrupt:
                continue
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            for frame in decoded:
                if not frame.is_corrupt:
                    frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                    times.append(float(frame.pts * stream.time_base))
    return frames, [t - times[0] for t in times]


def assert_true(clip: video.Clip, path: Path) -> None:
    frames, times = decode_all(path)
    assert clip.frames.dtype == np.uint8
    assert clip.times.dtype == np.float64
    for frame, time, index in zip(clip.frames, clip.times, clip.indices, strict=True):
        np.testing.assert_array_equal(frame, frames[index])
        assert time == pytest.approx(times[index], abs=1e-4)


# Indices


def test_uniform_indices_include_both_ends() -> None:
    assert video.uniform_indices(150, 8) == [0, 21, 42, 63, 85, 106, 127, 149]
    assert video.uniform_indices(9, 1) == [4]
    assert video.uniform_indices(2, 4) == [0, 0, 0, 1]


def test_plm_indices_take_one_frame_a_second_or_all_evenly() -> None:
    assert video.plm_indices(900, 30, 32) == [round(i * 899 / 31) for i in range(32)]  # 30 would be too few
    assert video.plm_indices(931, 30, 32) == list(range(0, 931, 30))
    assert video.plm_indices(5, 30, 32) == [0, 1, 2, 3, 4]
    assert video.plm_indices(1000, 10, 4, start=90, end=20) == video.plm_indices(1000, 10, 4, start=20, end=90)
    assert video.plm_indices(100, 10, 1) == [0]


@pytest.mark.parametrize("call", [(0, 8), (8, 0)])
def test_indices_of_nothing_are_refused(call: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        video.uniform_indices(*call)
    with pytest.raises(InputError, match="at least 1"):
        video.plm_indices(call[0], 25, call[1])


def test_plm_indices_need_a_frame_rate() -> None:
    with pytest.raises(InputError, match="fps must be above 0"):
        video.plm_indices(10, 0, 4)


# Frames


@pytest.mark.parametrize("num_frames", [1, 3, 8])
@pytest.mark.parametrize("name", WHOLE)
def test_frames_are_those_of_the_full_decoding(name: str, num_frames: int) -> None:
    clip = video.sample_frames(MEDIA / name, num_frames, backend="pyav")
    total = len(decode_all(MEDIA / name)[0])
    assert clip.indices.tolist() == video.uniform_indices(total, num_frames)
    assert not clip.short_read
    assert clip.start == 0
    assert clip.end >= clip.times[-1]
    assert_true(clip, MEDIA / name)


@pytest.mark.parametrize("name", [n for n in WHOLE if n != "gradual_refresh.mp4"])
def test_every_frame_can_be_had_alone(name: str) -> None:
    """Each frame after a seek of its own, last one first: no frame depends on what was read before."""
    frames, _ = decode_all(MEDIA / name)
    with open_source(MEDIA / name, VideoLimits()) as source:
        reader = Reader(source)
        assert len(reader.timeline) == len(frames)
        for index in reversed(range(len(frames))):
            ((found, pixels),) = reader.frames([index])
            assert found == index
            np.testing.assert_array_equal(pixels, frames[index])


def test_only_what_is_needed_is_decoded() -> None:
    path = MEDIA / "odd_size.webm"  # a key frame every 15 frames
    with open_source(path, VideoLimits()) as source:
        reader = Reader(source)
        decoded = []
        decode = reader._decode
        reader._decode = lambda packet: decoded.append(packet) or decode(packet)  # type: ignore[method-assign]
        assert [index for index, _ in reader.frames([46])] == [46]
    assert len(decoded) < 6


def test_a_stretch_is_taken_by_time() -> None:
    path = MEDIA / "variable_rate.mkv"
    clip = video.sample_frames(path, 4, start=1.0, end=2.5)
    _, times = decode_all(path)
    inside = [i for i, t in enumerate(times) if 1.0 <= t < 2.5]
    assert clip.indices.tolist() == [inside[i] for i in video.uniform_indices(len(inside), 4)]
    assert (clip.start, clip.end) == (1.0, 2.5)
    assert_true(clip, path)


def test_an_empty_stretch_is_refused() -> None:
    with pytest.raises(InputError, match="no frame between 7 and 2 s"):
        video.sample_frames(MEDIA / "b_frames.mp4", start=7)


def test_rotation_makes_a_tall_picture_of_a_wide_one() -> None:
    upright, turned = (video.sample_frames(MEDIA / name, 2) for name in ("b_frames.mp4", "rotated.mp4"))
    assert upright.frames.shape == (2, 120, 160, 3)
    np.testing.assert_array_equal(turned.frames, np.rot90(upright.frames, axes=(1, 2)))


def test_approximate_takes_the_nearest_key_frames() -> None:
    path = MEDIA / "odd_size.webm"
    clip = video.sample_frames(path, 8, approximate=True)
    with av.open(str(path)) as container:
        keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    exact = video.uniform_indices(50, 8)
    assert clip.indices.tolist() == [min(keys, key=lambda k: abs(k - i)) for i in exact]
    assert clip.indices.tolist() != exact
    assert_true(clip, path)


def test_bytes_and_open_files_are_read_like_paths() -> None:
    path = MEDIA / "bt709.mp4"
    expected = video.sample_frames(path, 3)
    with path.open("rb") as file:
        for source in (path.read_bytes(), io.BytesIO(path.read_bytes()), file, str(path)):
            np.testing.assert_array_equal(video.sample_frames(source, 3).frames, expected.frames)


def test_a_name_with_a_colon_or_a_scheme_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "concat:x|y.mp4", "ä ö.mp4"):
        Path(name).write_bytes((MEDIA / "one_frame.mp4").read_bytes())
        assert video.probe(name).frames == 1


def test_the_declared_count_is_not_believed(tmp_path: Path) -> None:
    data = bytearray((MEDIA / "declared_count.avi").read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):  # total frames; length of the stream
        at = data.index(chunk) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 50
        data[at : at + 4] = (20).to_bytes(4, "little")
    (tmp_path / "lies.avi").write_bytes(data)
    assert video.probe(tmp_path / "lies.avi").frames == 50
    assert video.sample_frames(tmp_path / "lies.avi", 2).indices.tolist() == [0, 49]


def test_probe_tells_what_is_there() -> None:
    info = video.probe(MEDIA / "rotated.mp4")
    assert (info.width, info.height, info.rotation, info.frames, info.codec) == (120, 160, 90, 50, "h264")
    assert info.duration == pytest.approx(2.0)
    assert info.fps == pytest.approx(25.0)


# Segments


@pytest.mark.parametrize("name", [n for n in WHOLE if n != "one_frame.mp4"])
def test_segments_cover_the_video(name: str) -> None:
    clips = list(video.segments(MEDIA / name, seconds=0.6, num_frames=3))
    duration = video.probe(MEDIA / name).duration
    assert clips[0].start == 0
    assert clips[-1].end == pytest.approx(duration)
    for before, after in zip(clips, clips[1:], strict=False):
        assert before.end == after.start
    for clip in clips:
        assert clip.frames.shape[0] == 3
        assert (clip.times < clip.end).all()
        assert_true(clip, MEDIA / name)
    assert {0, video.probe(MEDIA / name).frames - 1} <= {int(i) for clip in clips for i in clip.indices}


def test_a_gap_keeps_the_frame_that_stands(tmp_path: Path) -> None:
    path = tmp_path / "slides.mkv"
    write_video(path, times=[0.0, 0.2, 3.1, 3.3])
    clips = list(video.segments(path, seconds=1.0, num_frames=2))
    assert [clip.indices.tolist() for clip in clips] == [[0, 1], [1, 1], [1, 1], [2, 3]]
    assert_true(clips[1], path)


def test_segments_of_one_frame() -> None:
    (clip,) = video.segments(MEDIA / "one_frame.mp4", seconds=10, num_frames=4)
    assert clip.indices.tolist() == [0, 0, 0, 0]


def test_segments_check_their_arguments_at_once() -> None:
    with pytest.raises(InputError, match="seconds"):
        video.segments(MEDIA / "b_frames.mp4", seconds=0)


def write_video(path: Path, times: list[float], size: tuple[int, int] = (32, 32)) -> None:
    """An MPEG-4 video of plain frames at given times, key frames every 12."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), i * 37 % 256, np.uint8), format="rgb24")
            frame.pts = round(time * 1000)
            frame.time_base = MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_an_hour_is_sampled_without_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "hour.mkv"
    write_video(path, times=[float(i) for i in range(3601)], size=(16, 16))
    with open_source(path, VideoLimits()) as source:
        reader = Reader(source)
        decoded = []
        decode = reader._decode
        reader._decode = lambda packet: decoded.append(packet) or decode(packet)  # type: ignore[method-assign]
        assert len(dict(reader.frames(video.uniform_indices(3601, 8)))) == 8
    assert len(decoded) <= 8 * 14
    clip = video.sample_frames(path)
    assert clip.times.tolist() == [float(i) for i in video.uniform_indices(3601, 8)]


# Broken, missing, too large


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_gives_its_good_part_and_a_warning(name: str) -> None:
    with pytest.warns(MediaWarning, match=name):
        clip = video.sample_frames(MEDIA / name, 5)
    assert clip.short_read
    assert_true(clip, MEDIA / name)
    assert clip.indices.tolist() == video.uniform_indices(len(decode_all(MEDIA / name)[0]), 5)
    with pytest.warns(MediaWarning, match=name):
        clips = list(video.segments(MEDIA / name, seconds=0.5, num_frames=2))
    assert len(clips) in (2, 3)
    assert video.probe(MEDIA / name).short_read


@pytest.mark.parametrize("name", NO_PICTURES)
def test_a_file_without_pictures_is_refused(name: str) -> None:
    for call in (video.probe, video.sample_frames, lambda path: list(video.segments(path))):
        with pytest.raises(MediaError, match=name):
            call(MEDIA / name)


def test_packets_without_one_good_frame_are_refused(tmp_path: Path) -> None:
    data = (MEDIA / "one_frame.mp4").read_bytes()
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    (tmp_path / "noise.mp4").write_bytes(data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(MediaError, match=r"noise\.mp4"):
        video.sample_frames(tmp_path / "noise.mp4")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video " * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n")
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{MEDIA / 'bt709.mp4'}'\n")
    for name in ("empty.mp4", "text.mp4", "missing.mp4", "list.m3u8", "list.ffconcat", "."):
        with pytest.raises(MediaError) as caught:
            video.sample_frames(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(MediaError, match="not a regular file"):
        video.probe("/dev/zero" if os.path.exists("/dev/zero") else "CON")
    with pytest.raises(InputError, match="Expected a path"):
        video.sample_frames(42)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_pixels=160 * 120 - 1), "160x120"),
        (VideoLimits(max_bytes=1000), "1000"),
        (VideoLimits(max_frames=49), "49 frames"),
        (VideoLimits(max_seconds=1.9), "2 seconds"),
        (VideoLimits(timeout=1e-9), "took longer"),
    ],
)
@pytest.mark.parametrize("name", ["b_frames.mp4", "no_count.mkv"])
def test_limits(name: str, limits: VideoLimits, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        video.sample_frames(MEDIA / name, limits=limits)


def test_limits_and_arguments_are_checked() -> None:
    with pytest.raises(ConfigError):
        VideoLimits(max_frames=0)
    with pytest.raises(InputError, match="num_frames"):
        video.sample_frames(MEDIA / "b_frames.mp4", 0)
    with pytest.raises(InputError, match="backend"):
        video.sample_frames(MEDIA / "b_frames.mp4", backend="vlc")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["b_frames.mp4", "no_count.mkv", "declared_count.avi", "open_groups.ts"])
def test_broken_files_raise_nothing_else(name: str) -> None:
    """Cut anywhere, or with bytes changed anywhere: frames, or one clear error."""
    data, draw = (MEDIA / name).read_bytes(), random.Random(name)
    outcomes = set()
    for round_ in range(24):
        broken = bytearray(data)
        if round_ % 2:
            broken = broken[: draw.randrange(len(data))]
        else:
            for _ in range(draw.choice((1, 10, 100))):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MediaWarning)
                clip = video.sample_frames(bytes(broken), 4, limits=VideoLimits(timeout=30))
                list(itertools.islice(video.segments(bytes(broken), 1.0, 2, limits=VideoLimits(timeout=30)), 20))
        except MediaError:
            outcomes.add("error")
        else:
            assert clip.frames.shape[0] == 4
            outcomes.add("frames")
    assert outcomes == {"error", "frames"}


# torchcodec


TORCHCODEC = ["bt709.mp4", "no_count.mkv", "variable_rate.mkv", "turned.mp4", "fragments.mp4"]


def torchcodec_must_load() -> None:
    """Fails where torchcodec does not load, unless it was left out on purpose."""
    if os.environ.get("MIDSIGHT_WITHOUT_TORCHCODEC") == "1":
        pytest.skip("MIDSIGHT_WITHOUT_TORCHCODEC=1")
    torchcodec.check()


@pytest.mark.parametrize("name", TORCHCODEC)
def test_torchcodec_gives_the_same_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torchcodec_must_load()
    expected = video.sample_frames(MEDIA / name, 8, backend="pyav")
    monkeypatch.setattr(Reader, "frames", lambda *_: pytest.fail("PyAV decoded"))
    clip = video.sample_frames(MEDIA / name, 8, backend="torchcodec")
    np.testing.assert_array_equal(clip.frames, expected.frames)
    np.testing.assert_array_equal(clip.times, expected.times)


@pytest.mark.parametrize("name", [n for n in WHOLE if n not in (*TORCHCODEC, "gradual_refresh.mp4")])
def test_what_torchcodec_cannot_do_goes_to_pyav(name: str) -> None:
    torchcodec_must_load()
    clip = video.sample_frames(MEDIA / name, 8, backend="torchcodec")
    assert_true(clip, MEDIA / name)


@pytest.mark.parametrize("late", [True, False])
def test_torchcodec_without_ffmpeg_is_told(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries may be looked for at the import or at the first use."""

    class Decoder:
        def __init__(self, source: object) -> None:
            raise RuntimeError("Could not load libtorchcodec. Likely causes: FFmpeg" if late else "Invalid data")

    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", types.ModuleType("torchcodec.decoders"))
    if late:
        sys.modules["torchcodec.decoders"].VideoDecoder = Decoder  # type: ignore[attr-defined]
    found = torchcodec._decoder_class.__wrapped__()
    assert isinstance(found, RuntimeError if late else ImportError)
    if not late:
        sys.modules["torchcodec.decoders"].VideoDecoder = Decoder  # type: ignore[attr-defined]
        assert torchcodec._decoder_class.__wrapped__() is Decoder


def test_torchcodec_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchcodec, "_decoder_class", lambda: RuntimeError("Could not load libtorchcodec."))
    with pytest.raises(MissingDependencyError, match="Could not load libtorchcodec"):
        video.sample_frames(MEDIA / "b_frames.mp4", backend="torchcodec")
    assert len(video.sample_frames(MEDIA / "b_frames.mp4", backend="auto").frames) == 8
