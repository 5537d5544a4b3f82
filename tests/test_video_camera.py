"""Cameras, by a real capture device of FFmpeg: lavfi, at the pace of a real one."""

import threading
import time

import numpy as np
import pytest

from midsight import video
from midsight.errors import InputError, MediaError
from midsight.video import camera as cameras
from midsight.video.camera import Device, find_device

CAMERA = "camera:lavfi:testsrc=size=160x120:rate=20,realtime"
SHORT = "camera:lavfi:testsrc=size=160x120:rate=20:duration=0.4,realtime"


def test_frames_come_with_their_times() -> None:
    with video.open_camera(CAMERA, seconds=0.5) as camera:
        frames = list(camera)
    assert camera.ended is None
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times[-1] < 0.5
    np.testing.assert_allclose(times, [frame.index / 20 for frame in frames])
    assert frames[0].pixels.shape == (120, 160, 3)
    assert (frames[0].pixels != frames[-1].pixels).any()  # the test picture shows the seconds and moves


def test_the_newest_frame_is_looked_at_and_the_others_are_counted() -> None:
    with video.open_camera(CAMERA) as camera:
        seen = []
        for frame in camera:
            seen.append(frame.index)
            if len(seen) == 4:
                break
            time.sleep(0.22)  # four frames of the camera
    assert camera.dropped >= 6
    assert (np.diff(seen) >= 3).all(), seen


def test_it_can_be_stopped_from_elsewhere() -> None:
    with video.open_camera(CAMERA) as camera:
        timer = threading.Timer(0.3, camera.stop)
        timer.start()
        count = sum(1 for _ in camera)
        timer.join()
    assert 2 <= count <= 12
    assert (camera.ended, camera.stopped) == (None, True)


def test_a_camera_that_ends_early_is_told() -> None:
    with video.open_camera(SHORT, seconds=30) as camera:
        assert len(list(camera)) >= 4
        assert camera.ended == "it ended by itself"
    assert threading.active_count() == 1 or not any(t.name == "midsight-camera" for t in threading.enumerate())


def test_a_camera_that_falls_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    late = "camera:lavfi:testsrc=size=16x16:rate=10:duration=1,setpts=N*3/TB,realtime=limit=5"
    monkeypatch.setattr(cameras, "PATIENCE", 0.3)
    with video.open_camera(late) as camera:
        assert len(list(camera)) == 1
        assert camera.ended == "no picture for 0.3 s"


def test_a_camera_without_a_picture_is_an_error() -> None:
    with video.open_camera("camera:lavfi:testsrc=size=16x16:rate=10,trim=end_frame=0") as camera:  # noqa: SIM117
        with pytest.raises(MediaError, match=r"not one picture \(it ended by itself\)"):
            next(iter(camera))


@pytest.mark.parametrize(
    ("source", "platform", "device"),
    [
        ("camera:0", "linux", Device("/dev/video0", "v4l2")),
        ("camera:/dev/video7", "linux", Device("/dev/video7", "v4l2")),
        ("camera:1", "darwin", Device("1:none", "avfoundation", {"framerate": "30"})),
        ("camera:FaceTime HD", "darwin", Device("FaceTime HD:none", "avfoundation", {"framerate": "30"})),
        ("camera:1", "win32", Device("video=Second", "dshow")),
        ("camera:First", "win32", Device("video=First", "dshow")),
        ("camera:x11grab::0.0", "linux", Device(":0.0", "x11grab")),
        ("camera:lavfi:testsrc=size=2x2:rate=1", "win32", Device("testsrc=size=2x2:rate=1", "lavfi")),
    ],
)
def test_devices_of_each_platform(source: str, platform: str, device: Device) -> None:
    assert find_device(source, platform, lambda _: ["First", "Second"]) == device


def test_what_is_no_camera_is_told() -> None:
    with pytest.raises(InputError, match="expected camera:0"):
        find_device("camera:")
    with pytest.raises(MediaError, match="no such camera; found are First"):
        find_device("camera:3", "win32", lambda _: ["First"])
    with pytest.raises(InputError, match="give camera:FORMAT:NAME"):
        find_device("camera:0", "plan9")
    with (
        pytest.raises(MediaError, match=r"there is no camera /dev/video987\. Plug it in"),
        video.open_camera("camera:v4l2:/dev/video987"),
    ):
        pass
    with pytest.raises(MediaError, match="gives no pictures, only sound"), video.open_camera("camera:lavfi:sine"):
        pass
    with pytest.raises(MediaError, match="cannot be opened by lavfi"), video.open_camera("camera:lavfi:nonsense=1"):
        pass
    with pytest.raises(InputError, match="seconds must be above 0"), video.open_camera(CAMERA, 0):
        pass
    with (
        pytest.raises(MediaError, match="more than 100 pixels"),
        video.open_camera(CAMERA, limits=video.VideoLimits(max_pixels=100)),
    ):
        pass
    assert not video.is_camera("./camera:0")
