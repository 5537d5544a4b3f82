"""An embedding job that is stopped at every point it can be stopped at."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import midsight
from midsight import errors
from midsight.library import embed
from midsight.library.embed import EmbedJob, partial_folder, restart

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))


class Crash(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Seven pictures, the third one broken."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    paths[2].write_bytes(b"broken")
    return paths


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "PART_ROWS", 2)


def run(model: midsight.Perception, photos: list[Path], output: Path, **options: Any) -> embed.Summary:
    with EmbedJob(model, photos, output, **{"batch_size": 1, **options}) as job:
        for _ in job.run():
            pass
        return job.finish()


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_whole_run(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    assert run(tiny_model, photos, output) == embed.Summary(inputs=7, rows=7, failures=1)
    rows = read(output)
    assert [row["path"] for row in rows] == [str(path) for path in photos]
    assert [row["error"] is None for row in rows] == [True, True, False, True, True, True, True]
    good = [photos[i] for i in (0, 1, 3, 4, 5, 6)]
    found = np.array([row["embedding"] for row in rows if row["error"] is None], np.float32)
    np.testing.assert_allclose(found, tiny_model.embed_images(good), atol=1e-6)
    metadata = pq.read_schema(output).metadata
    assert metadata[b"identity"].decode() == tiny_model.identity
    assert (metadata[b"model"], metadata[b"layer"]) == (b"tiny", b"")
    assert not partial_folder(output).exists()


def crash_at(monkeypatch: pytest.MonkeyPatch, point: int, *, before: bool) -> Callable[[], int]:
    """Makes the `point`-th write of the job crash, before or after it has happened; gives the number of writes."""
    calls = 0

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point and before:
                raise Crash
            result = write(*args)
            if calls == point:
                raise Crash
            return result

        return wrapped

    monkeypatch.setattr(embed.Journal, "append", counted(embed.Journal.append))
    monkeypatch.setattr(EmbedJob, "_keep", _split_keep(counted))
    monkeypatch.setattr(embed, "write_table", counted(embed.write_table))
    monkeypatch.setattr(embed, "_remove", counted(embed._remove))
    return lambda: calls


def _split_keep(counted: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[..., Any]:
    real = EmbedJob._keep

    def keep(job: EmbedJob, outcomes: Any) -> None:
        counted(lambda: None)()  # a kill just before the part is written
        real(job, outcomes)

    return keep


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("segments", [None, 0.7])
def test_stopped_anywhere_and_started_again(
    tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path, before: bool, segments: float | None
) -> None:
    if segments:
        photos = [photos[0], CLIP, photos[2], photos[3], CLIP]
    options = {"segment_seconds": segments, "num_frames": 2}
    whole = tmp_path / "whole.parquet"
    run(tiny_model, photos, whole, **options)
    expected = read(whole)
    assert len(expected) > len(photos) or not segments
    output = tmp_path / "out.parquet"
    for point in range(1, 100):
        output.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            count = crash_at(patch, point, before=before)
            try:
                run(tiny_model, photos, output, **options)
            except Crash:
                assert count() == point
            else:
                break  # the point lies behind the last write
        run(tiny_model, photos, output, **options)
        assert read(output) == expected, f"stopped at write {point}"
        assert not partial_folder(output).exists()
    assert point > 10


def test_a_second_run_only_does_the_rest(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        outcomes = job.run()
        for _ in range(5):
            next(outcomes)
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        assert job.done == 4
        assert [photos.index(outcome.source) for outcome in job.run()] == [4, 5, 6]
        assert job.done == 7
        job.finish()
    assert np.load(output).shape == (6, 32)


def test_a_torn_journal_and_a_stray_part(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        outcomes = job.run()
        for _ in range(4):
            next(outcomes)
    folder = partial_folder(output)
    (folder / "part-000002.npz").write_bytes(b"written, but not named in the journal")
    with open(folder / "journal.jsonl", "ab") as journal:
        journal.write(b'{"part": "part-000002.n')
    assert run(tiny_model, photos, output).rows == 7
    assert len({row["path"] for row in read(output)}) == 7


def test_unfinished_work_of_another_kind_is_not_mixed(
    tiny_model: midsight.Perception, tiny_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        next(job.run())
    other = midsight.load(tiny_folder, layer=0)
    with pytest.raises(errors.InputError, match="unfinished work of another model.*--restart"):
        EmbedJob(other, photos, output)
    with pytest.raises(errors.InputError, match="other inputs .7 files, now 6"):
        EmbedJob(tiny_model, photos[1:], output)
    with pytest.raises(errors.InputError, match="segment_seconds None, now 2.0"):
        EmbedJob(tiny_model, photos, output, segment_seconds=2.0)
    os.utime(photos[0], ns=(1, 1))
    with pytest.raises(errors.InputError, match="changed since"):
        EmbedJob(tiny_model, photos, output)
    restart(output)
    assert run(tiny_model, photos, output).rows == 7


def test_a_long_video_is_taken_up_in_the_middle(
    tiny_model: midsight.Perception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.parquet"
    options: dict[str, Any] = {"segment_seconds": 0.3, "num_frames": 1}
    run(tiny_model, [CLIP], output, **options)
    expected = read(output)
    with EmbedJob(tiny_model, [CLIP], output, batch_size=1, **options) as job:
        outcomes = job.run()
        for _ in range(5):
            next(outcomes)
    encoded = 0
    encode = tiny_model._encode

    def counting(images: Any) -> Any:
        nonlocal encoded
        encoded += len(images)
        return encode(images)

    monkeypatch.setattr(tiny_model, "_encode", counting)
    run(tiny_model, [CLIP], output, **options)
    assert encoded == len(expected) - 4, "two parts of two segments were kept"
    assert read(output) == expected


def test_a_bad_segment_does_not_end_its_video(
    tiny_model: midsight.Perception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.parquet"
    options: dict[str, Any] = {"segment_seconds": 0.3, "num_frames": 1}
    run(tiny_model, [CLIP], output, **options)
    count = len(read(output))
    encode, calls = tiny_model._encode, 0

    def bad_second(images: Any) -> Any:
        nonlocal calls
        calls += 1
        return encode(images) * (float("nan") if calls == 2 else 1)

    monkeypatch.setattr(tiny_model, "_encode", bad_second)
    with EmbedJob(tiny_model, [CLIP], output, batch_size=1, **options) as job:
        outcomes = job.run()
        for _ in range(3):
            next(outcomes)
    run(tiny_model, [CLIP], output, **options)
    assert [row["error"] is None for row in read(output)] == [True, False] + [True] * (count - 2)


def test_work_in_another_precision_is_not_mixed(
    tiny_model: midsight.Perception, tiny_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output) as job:
        next(job.run())
    with pytest.raises(errors.InputError, match="dtype fp32, now bf16"):
        EmbedJob(midsight.load(tiny_folder, dtype="bf16"), photos, output)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory")])
def test_memory_that_runs_out_halves_the_batch(
    tiny_model: midsight.Perception,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    run(tiny_model, photos, tmp_path / "whole.parquet", batch_size=4)
    encode, sizes = tiny_model._encode, []

    def little_memory(images: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 2:
            raise error
        return encode(images)

    monkeypatch.setattr(tiny_model, "_encode", little_memory)
    run(tiny_model, photos, tmp_path / "tight.parquet", batch_size=4)
    assert sizes[0] > 2
    assert max(sizes[1:]) == 2, "the batch that fits is remembered"
    whole, tight = read(tmp_path / "whole.parquet"), read(tmp_path / "tight.parquet")
    for ours, expected in zip(tight, whole, strict=True):
        assert (ours["path"], ours["error"]) == (expected["path"], expected["error"])
        if expected["embedding"] is not None:
            np.testing.assert_allclose(ours["embedding"], expected["embedding"], atol=1e-6)
    assert sum(row["embedding"] is not None for row in tight) == 6


def test_finishing_too_early(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    with (
        EmbedJob(tiny_model, photos, tmp_path / "out.npy") as job,
        pytest.raises(errors.InputError, match="7 inputs are not embedded"),
    ):
        job.finish()


def test_two_jobs_do_not_share_a_folder(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with (
        EmbedJob(tiny_model, photos, output),
        pytest.raises(errors.OutputError, match="another process"),
    ):
        EmbedJob(tiny_model, photos, output)
    assert run(tiny_model, photos, output).rows == 7


def test_a_damaged_part_is_told(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        for _ in job.run():
            pass
        (job.folder / "part-000000.npz").write_bytes(b"cut")
        with pytest.raises(errors.InputError, match="part-000000.npz: is damaged.*--restart"):
            job.finish()
    assert not output.exists()


def test_a_missing_part_is_told(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output, batch_size=1) as job:
        for _ in job.run():
            pass
    (partial_folder(output) / "part-000000.npz").unlink()
    with pytest.raises(errors.InputError, match="part-000000.npz: is missing"):
        EmbedJob(tiny_model, photos, output)


def test_a_folder_of_that_name_that_is_not_ours(
    tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    folder = partial_folder(output)
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(errors.OutputError, match="left alone"):
        EmbedJob(tiny_model, photos, output)
    with pytest.raises(errors.OutputError, match="left alone"):
        restart(output)
    assert (folder / "thesis.tex").exists()
    shutil.rmtree(folder)
    restart(output)


def test_something_else_in_our_folder_survives(
    tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with EmbedJob(tiny_model, photos, output) as job:
        (job.folder / "notes.txt").touch()
        for _ in job.run():
            pass
        with pytest.raises(errors.OutputError, match="Remove it by hand"):
            job.finish()
    assert output.exists()
    assert (job.folder / "notes.txt").exists()


def test_segments_of_a_video_are_rows(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    clip, seconds = CLIP, midsight.video.probe(CLIP).duration
    output = tmp_path / "out.parquet"
    summary = run(tiny_model, [photos[0], clip], output, segment_seconds=seconds / 2.5, num_frames=2)
    assert summary == embed.Summary(inputs=2, rows=4, failures=0)
    rows = read(output)
    assert [row["path"] for row in rows] == [str(photos[0]), *[str(clip)] * 3]
    assert rows[1]["start"] == 0
    assert [row["start"] for row in rows[2:]] == [row["end"] for row in rows[1:-1]]
    assert rows[-1]["end"] == pytest.approx(seconds, abs=0.1)
    run(tiny_model, [clip], output, num_frames=2)
    assert [(row["start"], row["end"] > 0) for row in read(output)] == [(0, True)]


def test_names_that_are_not_utf8(tiny_model: midsight.Perception, photos: list[Path], tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    shutil.copy(photos[0], odd)
    for suffix in (".parquet", ".npy"):
        output = tmp_path / f"out{suffix}"
        run(tiny_model, [odd], output)
    assert read(tmp_path / "out.parquet")[0]["path"].endswith("caf\\xe9.png")
    assert json.loads((tmp_path / "out.npy.json").read_text())["rows"][0]["path"].endswith("caf\\xe9.png")
