"""The job around dense tasks: outcomes in order, what is finished stays finished, what is broken stops nothing."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight import video
from midsight.api import Opened, Outcome
from midsight.errors import InputError, MediaError, OutputError, ShapeError
from midsight.images import load_image
from midsight.images.labels import read_numbers
from midsight.library.dense.depth import DepthResults
from midsight.library.dense.job import DenseJob, Done, Results
from midsight.library.dense.segment import SegmentResults
from midsight.library.dense.state import restart
from midsight.tasks.draw import class_colours, depth_colours, draw_classes, draw_depth

MEDIA = Path(__file__).parents[2] / "media"
NAMES = ("dark", "light")


class Brightness:
    """A task that tells dark pixels from light ones, and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        return (pixels.mean(axis=-1) > 128).astype(np.uint16)


@pytest.fixture
def task() -> Brightness:
    return Brightness()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures, one of them in a folder, and a video."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "sub/b.png"):
        Image.fromarray(rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)).save(folder / name)
    shutil.copy(MEDIA / "variable_rate.mkv", folder / "clip.mkv")
    return folder


def segment(inputs: list[Any], out: Path, task: Any, **options: Any) -> tuple[list[Outcome[Done]], "DenseJob[Any]"]:
    """Runs a job to its end."""
    of_results = {key: options.pop(key) for key in ("masks", "overlay") if key in options}
    opened = Opened(task, "a test", options.pop("identity", "1"), NAMES)
    with DenseJob(list(map(str, inputs)), opened, SegmentResults(out, opened, **of_results), **options) as job:
        outcomes = list(job.run())
        job.finish()
        return outcomes, job


def files(out: Path) -> list[str]:
    return sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and ".midsight" not in path.parts
    )


def test_results_of_pictures_and_videos(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    outcomes, _ = segment([photos], out, task, masks=True, every=2)
    frames = video.probe(photos / "clip.mkv").frames
    expected = ["a", "clip", "sub/b"]
    assert [outcome.unwrap().name for outcome in outcomes] == expected
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert [outcome.unwrap().frames for outcome in outcomes] == [1, -(-frames // 2), 1]
    maps = [f"labels/clip/{index:06}.png" for index in range(0, frames, 2)]
    pictures = ["labels/a.png", "labels/sub/b.png", "overlays/a.png", "overlays/clip.mp4", "overlays/sub/b.png"]
    assert files(out) == sorted([*maps, *pictures, "classes.json"])

    pixels = load_image(photos / "sub/b.png")
    labels = task(pixels)
    np.testing.assert_array_equal(read_numbers(out / "labels/sub/b.png"), labels)
    np.testing.assert_array_equal(load_image(out / "overlays/sub/b.png"), draw_classes(pixels, labels, NAMES))
    np.testing.assert_array_equal(load_image(out / "labels/sub/b.png"), class_colours(2)[labels])
    with video.open_frames(photos / "clip.mkv", 2) as source, video.open_frames(out / "overlays/clip.mp4") as written:
        for before, after in zip(source, written, strict=True):
            assert after.time == pytest.approx(before.time, abs=1e-4)
            labels = task(before.pixels)
            np.testing.assert_array_equal(read_numbers(out / f"labels/clip/{before.index:06}.png"), labels)
            drawn = draw_classes(before.pixels, labels, NAMES).astype(float)
            assert np.abs(drawn - after.pixels).mean() < 8
    classes = json.loads((out / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == list(NAMES)
    assert [entry["rgb"] for entry in classes] == class_colours(2).tolist()


def test_what_is_finished_is_not_done_again(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    segment([photos], out, task)
    before, times = task.calls, {name: (out / name).stat().st_mtime_ns for name in files(out)}
    outcomes, job = segment([photos], out, task)
    assert task.calls == before
    assert all(outcome.unwrap().before for outcome in outcomes)
    assert job.done == 3
    kept = {name: (out / name).stat().st_mtime_ns for name in files(out) if name != "classes.json"}
    assert kept.items() <= times.items()


def test_what_has_changed_or_is_missing_is_done_again(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    segment([photos], out, task)
    Image.new("RGB", (5, 4), "white").save(photos / "a.png")
    (out / "overlays/sub/b.png").unlink()
    (photos / "new.bmp").write_bytes((photos / "a.png").read_bytes())
    outcomes, _ = segment([photos], out, task)
    done = {outcome.unwrap().name: outcome.unwrap().before for outcome in outcomes}
    assert done == {"a": False, "clip": True, "new": False, "sub/b": False}
    assert (read_numbers(out / "labels/a.png") == np.ones((4, 5))).all()
    assert (out / "overlays/sub/b.png").is_file()


def test_overlays_and_maps_are_added_by_a_later_run(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    segment([photos / "a.png"], out, task, overlay=False)
    assert files(out) == ["classes.json", "labels/a.png"]
    segment([photos], out, task, masks=True)
    assert {"overlays/a.png", "overlays/clip.mp4", "labels/clip/000000.png"} <= set(files(out))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"every": 3}, r"other settings \(every 1, now 3\)"),
        ({"settings": {"size": 5}}, r"other settings \(size None, now 5\)"),
        ({"identity": "2"}, r"another model \(a test; now a test\)"),
    ],
)
def test_other_settings_are_not_mixed(
    photos: Path, tmp_path: Path, task: Brightness, change: dict[str, Any], told: str
) -> None:
    out = tmp_path / "out"
    segment([photos / "a.png"], out, task)
    with pytest.raises(InputError, match=f"out: holds results of {told}. Name another folder, .* --restart"):
        segment([photos / "a.png"], out, task, **change)
    restart(out)
    outcomes, _ = segment([photos / "a.png"], out, task, **change)
    assert not outcomes[0].unwrap().before
    segment([photos / "a.png"], out, task, **change)
    assert task.calls == 2


def test_another_task_is_not_mixed(photos: Path, tmp_path: Path, task: Brightness) -> None:
    segment([photos / "a.png"], tmp_path / "out", task)
    opened = Opened(lambda pixels: np.ones(pixels.shape[:2], np.float32), "a test", "1")
    with pytest.raises(InputError, match="holds results of `midsight segment`"):
        DenseJob([str(photos)], opened, DepthResults(tmp_path / "out"))


def test_folders_of_others_are_left_alone(photos: Path, tmp_path: Path, task: Brightness) -> None:
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/labels/a.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(OutputError, match="holds labels, which no job of midsight made"):
        segment([photos], tmp_path / "out", task)
    assert files(tmp_path / "out") == ["labels/a.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file. Name a folder"):
        segment([photos], tmp_path / "file", task)


def test_two_jobs_do_not_share_a_folder(photos: Path, tmp_path: Path, task: Brightness) -> None:
    opened = Opened(task, "a test", "1", NAMES)
    with (
        DenseJob([str(photos)], opened, SegmentResults(tmp_path / "out", opened)),
        pytest.raises(OutputError, match="another process"),
    ):
        segment([photos], tmp_path / "out", task)
    with (
        DenseJob([str(photos)], opened, SegmentResults(tmp_path / "out", opened)),
        pytest.raises(OutputError, match="another process"),
    ):
        restart(tmp_path / "out")


def test_broken_files_stop_nothing_and_are_tried_again(photos: Path, tmp_path: Path, task: Brightness) -> None:
    good = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(good[:200])
    (photos / "b.jpg").write_bytes(b"junk")
    (photos / "c.mp4").write_bytes(b"junk")
    out = tmp_path / "out"
    outcomes, _ = segment([photos, tmp_path / "missing.png"], out, task)
    failed = {Path(o.source).name: str(o.error) for o in outcomes if o.error is not None}
    assert set(failed) == {"a.png", "b.jpg", "c.mp4", "missing.png"}
    assert all(name in message for name, message in failed.items())
    assert files(out) == ["classes.json", "labels/sub/b.png", "overlays/clip.mp4", "overlays/sub/b.png"]
    (photos / "a.png").write_bytes(good)
    outcomes, _ = segment([photos / "a.png"], out, task)
    assert outcomes[0].unwrap() == Done("a", 1)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_cut_video_gives_what_there_is(tmp_path: Path, task: Brightness, name: str) -> None:
    (outcome,), _ = segment([MEDIA / name], tmp_path / "out", task)
    assert "cut or broken" in outcome.unwrap().note
    assert outcome.unwrap().frames == task.calls > 10
    assert video.probe(tmp_path / "out/overlays/cut.mp4").frames == task.calls


def test_a_failure_in_the_middle_of_a_video_leaves_no_video(photos: Path, tmp_path: Path) -> None:
    calls = itertools.count()

    def fails(pixels: np.ndarray) -> np.ndarray:
        if next(calls) == 5:
            raise MediaError("no")
        return np.zeros(pixels.shape[:2], np.uint16)

    outcomes, _ = segment([photos / "clip.mkv", photos / "a.png"], tmp_path / "out", fails)
    assert "clip.mkv: frame 5: no" in str(outcomes[0].error)
    assert outcomes[1].error is None
    assert files(tmp_path / "out") == ["classes.json", "labels/a.png", "overlays/a.png"]
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_video_that_cannot_be_written_is_a_failure(photos: Path, tmp_path: Path, task: Brightness) -> None:
    """Drawing fails in its own thread, while the model is at a later frame."""

    def wide(pixels: np.ndarray) -> np.ndarray:
        return task(pixels)[:, : -1 if task.calls == 3 else None]

    with pytest.raises(ShapeError, match="expected an integer map"):
        draw_classes(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 3), np.uint16))
    outcomes, _ = segment([photos / "clip.mkv", photos / "a.png"], tmp_path / "out", wide)
    assert "clip.mkv: expected an integer map (120, 160)" in str(outcomes[0].error)
    assert task.calls < 10, "the model went on"
    assert outcomes[1].error is None


def test_a_picture_that_is_too_large_for_the_memory_is_a_failure(photos: Path, tmp_path: Path) -> None:
    def full(pixels: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory")

    (outcome,), _ = segment([photos / "a.png"], tmp_path / "out", full)
    assert "a.png: too large for the memory" in str(outcome.error)


def test_an_interrupted_job_goes_on(photos: Path, tmp_path: Path, task: Brightness) -> None:
    def interrupted(pixels: np.ndarray) -> np.ndarray:
        if task.calls == 12:
            raise KeyboardInterrupt
        return task(pixels)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        segment([photos], out, interrupted, masks=True)
    assert "overlays/clip.mp4" not in files(out)
    assert "overlays/a.png" in files(out)
    assert not list(out.rglob("*.tmp"))
    outcomes, _ = segment([photos], out, task, masks=True)
    assert [outcome.unwrap().before for outcome in outcomes] == [True, False, False]
    whole = tmp_path / "whole"
    segment([photos], whole, task, masks=True)
    assert files(out) == files(whole)
    for name in files(out):
        if not name.endswith(".mp4"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_what_a_kill_left_is_swept_away(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    segment([photos / "a.png"], out, task)
    (out / "overlays/.clip.mp4.0123456789ab.tmp").write_bytes(b"half")
    (out / "overlays/.mine.tmp").write_bytes(b"kept")
    segment([photos], out, task)
    assert [path.name for path in out.rglob(".*.tmp")] == [".mine.tmp"]


def test_frames_of_a_longer_file_do_not_stay(photos: Path, tmp_path: Path, task: Brightness) -> None:
    out = tmp_path / "out"
    segment([photos / "clip.mkv"], out, task, masks=True)
    shutil.copy(MEDIA / "one_frame.mp4", photos / "clip.mkv")
    segment([photos / "clip.mkv"], out, task, masks=True)
    assert [name for name in files(out) if name.startswith("labels")] == ["labels/clip/000000.png"]


def test_links_do_not_lead_out(photos: Path, tmp_path: Path, task: Brightness) -> None:
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/labels/sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out/.midsight").mkdir()
    (tmp_path / "out/.midsight/journal.jsonl").touch()
    outcomes, _ = segment([photos], tmp_path / "out", task)
    assert "leads out of" in str(outcomes[-1].error)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_more_classes_than_a_palette_has(photos: Path, tmp_path: Path) -> None:
    opened = Opened(
        lambda p: np.full(p.shape[:2], 299, np.uint16), "a test", "1", tuple(f"class {k}" for k in range(300))
    )
    with DenseJob([str(photos / "a.png")], opened, SegmentResults(tmp_path / "out", opened)) as job:
        assert [outcome.error for outcome in job.run()] == [None]
    assert (read_numbers(tmp_path / "out/labels/a.png") == 299).all()


def test_depth_is_in_millimetres(photos: Path, tmp_path: Path) -> None:
    def metres(pixels: np.ndarray) -> np.ndarray:
        depth = pixels.mean(axis=-1).astype(np.float32) / 100
        depth[:3], depth[3:6] = 0, 70
        return depth

    out, opened = tmp_path / "out", Opened(metres, "a test", "1")
    with DenseJob([str(photos)], opened, DepthResults(out, maps=True), every=10) as job:
        assert [outcome.error for outcome in job.run()] == [None] * 3
    assert {"colours/a.png", "colours/clip.mp4", "depth/a.png", "depth/clip/000010.png"} <= set(files(out))
    expected = metres(load_image(photos / "a.png"))
    written = read_numbers(out / "depth/a.png")
    np.testing.assert_allclose(written[6:], expected[6:] * 1000, atol=0.51)
    assert (written[:3] == 0).all()
    assert (written[3:6] == 65535).all()
    np.testing.assert_array_equal(load_image(out / "colours/a.png"), draw_depth(expected))


def test_ends_of_the_scale_can_be_given(photos: Path, tmp_path: Path) -> None:
    opened = Opened(lambda pixels: np.full(pixels.shape[:2], 5, np.float32), "a test", "1")
    with DenseJob([str(photos / "a.png")], opened, DepthResults(tmp_path / "out", near=1, far=5)) as job:
        assert [outcome.error for outcome in job.run()] == [None]
    assert (load_image(tmp_path / "out/colours/a.png")[0] == depth_colours()[-1]).all()
    for near, far in ((2, 1), (-1, 4), (3, 3)):
        with pytest.raises(InputError, match="far beyond it"):
            DepthResults(tmp_path / "out", near=near, far=far)


def test_colours_of_a_video_do_not_flicker(tmp_path: Path) -> None:
    """A jump in depth changes the scale slowly, so that the same depth keeps nearly the same colour."""
    results = DepthResults(tmp_path / "out")
    scale_of = results._scales()
    first = scale_of(np.linspace(1, 2, 100).reshape(10, 10))
    second = scale_of(np.linspace(1, 12, 100).reshape(10, 10))
    assert scale_of(np.zeros((10, 10))) is None
    assert first == pytest.approx((1.01, 1.99), abs=0.01)
    assert second[1] == pytest.approx(0.9 * 1.99 + 0.1 * 11.89, abs=0.01)


def test_a_video_without_anything_to_write_is_told(photos: Path, tmp_path: Path, task: Brightness) -> None:
    with pytest.raises(InputError, match=r"clip\.mkv: nothing would be written of this video"):
        segment([photos / "clip.mkv"], tmp_path / "out", task, overlay=False)
    assert not (tmp_path / "out").exists()


def test_a_camera_is_recorded(tmp_path: Path, task: Brightness) -> None:
    source = "camera:lavfi:testsrc=size=64x48:rate=20,realtime"
    for _ in range(2):
        (outcome,), _ = segment([source], tmp_path / "out", task, seconds=0.4)
        assert outcome.unwrap().frames >= 3
    recordings = [tmp_path / "out" / name for name in files(tmp_path / "out") if name.endswith(".mp4")]
    assert len(recordings) == 2, "a recording was lost"
    assert video.probe(recordings[0]).duration == pytest.approx(0.4, abs=0.11)


def test_a_recording_is_ended_well(tmp_path: Path, task: Brightness) -> None:
    opened = Opened(task, "a test", "1", NAMES)
    source = "camera:lavfi:testsrc=size=64x48:rate=20,realtime"
    with DenseJob([source], opened, SegmentResults(tmp_path / "out", opened)) as job:
        told = []

        def tick(item: Any, done: int, total: int | None) -> None:
            assert job.recording
            if done == 3:
                told.extend([job.end_recording(), job.end_recording()])

        (outcome,) = job.run(tick)
        assert told == [True, False]
        assert not job.end_recording()
    assert outcome.unwrap().frames == 3
    assert video.probe(tmp_path / "out/overlays" / f"{outcome.unwrap().name}.mp4").frames == 3


def test_a_camera_that_ends_early_is_told_and_one_that_is_missing_fails(tmp_path: Path, task: Brightness) -> None:
    short = "camera:lavfi:testsrc=size=64x48:rate=20:duration=0.3,realtime"
    outcomes, _ = segment([short, "camera:v4l2:/dev/video987", MEDIA / "one_frame.mp4"], tmp_path / "out", task)
    assert "ended early" in outcomes[0].unwrap().note
    assert "there is no camera" in str(outcomes[1].error)
    assert outcomes[2].unwrap().frames == 1


def test_a_full_disk_stops_the_job(photos: Path, tmp_path: Path, task: Brightness) -> None:
    class Full:
        """Results of a disk that is full."""

        task, out, folders, settings = "full", tmp_path / "out", (), {}

        def files(self, item: Any) -> list[str]:
            return ["x"]

        @contextmanager
        def open(self, item: Any) -> Iterator[Any]:
            raise OutputError(os.strerror(28))
            yield

        def finish(self, records: Any) -> None: ...

    results: Results[Any] = Full()
    with (
        DenseJob([str(photos)], Opened(task, "a test", "1"), results) as job,
        pytest.raises(OutputError, match="No space"),
    ):
        list(job.run())
