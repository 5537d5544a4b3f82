"""Verdicts on files, and a job that is stopped at every point it can be stopped at."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import midsight
from midsight.errors import ConfigError, InputError, MediaError, OutputError
from midsight.files import Journal
from midsight.library.moderate import Calibration, Category, ModerateJob, Moderator, Policy, Verdict, read_verdicts
from midsight.library.moderate.job import partial_file, restart
from midsight.library.moderate.scores import Scorer

MEDIA = Path(__file__).parents[2] / "media"


class Crash(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture
def files(tmp_path: Path, demo: Path) -> list[Path]:
    """The shipped media, with a broken picture, a cut video and a missing file among them."""
    folder = tmp_path / "files"
    shutil.copytree(demo, folder)
    (folder / "README.md").unlink()
    (folder / "broken.jpg").write_bytes(b"broken")
    return [*sorted(folder.iterdir()), folder / "missing.png"]


@pytest.fixture
def moderator(embedded: midsight.Perception, policy: Policy) -> Moderator:
    return Moderator(embedded, policy)


def test_verdicts_come_in_order_and_bad_files_stop_none(moderator: Moderator, files: list[Path]) -> None:
    found = list(moderator.verdicts(iter(files)))
    assert [verdict.path for verdict in found] == list(map(str, files))
    words = {Path(verdict.path).name: verdict.verdict for verdict in found}
    assert words == {
        "broken.jpg": "error", "cat.jpg": "review", "coffee.jpg": "pass", "missing.png": "error",
        "motorcycle.jpg": "flag", "rocket.jpg": "pass", "temple.mp4": "flag",
    }  # fmt: skip
    for verdict in found:
        if verdict.error is None:
            alone = moderator.verdict(verdict.path)
            assert [one.verdict for one in alone.findings] == [one.verdict for one in verdict.findings]
            scores = [[one.score for one in some.findings] for some in (alone, verdict)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-4), "whatever it is batched with"
        else:
            assert verdict.path in verdict.error
            with pytest.raises(MediaError, match=Path(verdict.path).name):
                moderator.verdict(verdict.path)


def test_times_are_those_of_the_clips(moderator: Moderator, embedded: midsight.Perception, demo: Path) -> None:
    found = moderator.verdict(demo / "temple.mp4").findings[1]
    clips = list(embedded.iter_embed([demo / "temple.mp4"], segment_seconds=2, num_frames=2))
    scores = [float(Scorer(embedded, moderator.policy).scores(clip.unwrap()[None])[0, 1]) for clip in clips]
    assert len(scores) == 3
    assert found.score == pytest.approx(max(scores))
    above = [clip for clip, score in zip(clips, scores, strict=True) if score >= found.threshold]
    assert above, "otherwise there are no times to compare"
    assert found.ranges[0].start == above[0].start
    assert found.ranges[-1].end == above[-1].end


def test_what_could_be_read_of_a_broken_video_still_counts(
    moderator: Moderator, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = list(moderator.model.iter_embed([demo / "temple.mp4"], segment_seconds=2, num_frames=2))
    broken = replace(outcomes[-1], value=None, error=MediaError("temple.mp4: broken from here"))
    monkeypatch.setattr(Moderator, "_embedded", lambda self, sources, batch_size=None: iter([*outcomes[:-1], broken]))
    found = next(iter(moderator.verdicts([demo / "temple.mp4"])))
    assert (found.verdict, found.error) == ("flag", "temple.mp4: broken from here")
    nothing = Moderator(moderator.model, Policy((Category("cats", ("a cat",)),), segment_seconds=2, frames=2))
    assert next(iter(nothing.verdicts([demo / "temple.mp4"]))).verdict == "error"


@pytest.mark.filterwarnings("ignore:.*cut or broken:UserWarning")
def test_a_cut_video_does_not_pass(embedded: midsight.Perception) -> None:
    """What is behind the cut was not looked at, so only what is flagged may be said."""
    for prompt, word in (("a submarine", "error"), ("a blank picture", "flag")):
        moderator = Moderator(
            embedded, Policy((Category("a", (prompt,), threshold=1e-4 if word == "flag" else 0.999),))
        )
        (found,) = moderator.verdicts([MEDIA / "cut.mp4"])
        assert (found.verdict, found.error is None, len(found.findings)) == (word, False, 1)
        assert "cut or broken; the scores are of the part" in (found.error or "")
        assert moderator.verdict(MEDIA / "cut.mp4").error == found.error


def test_pixels_and_bytes(moderator: Moderator, demo: Path) -> None:
    from midsight.images import load_image

    data = (demo / "motorcycle.jpg").read_bytes()
    assert moderator.verdict(data).verdict == "flag"
    pixels, file = (moderator.verdict(source).findings[0].score for source in (load_image(data), data))
    assert pixels == pytest.approx(file, abs=0.05), "a file is decoded at a reduced size"


def test_thresholds_of_another_model_are_refused(
    embedded: midsight.Perception, tiny_model: midsight.Perception, policy: Policy
) -> None:
    calibrated = replace(policy, calibration=Calibration("embedded", embedded.identity, 50))
    Moderator(embedded, calibrated)
    with pytest.raises(ConfigError, match="calibrated with embedded, and this is tiny"):
        Moderator(tiny_model, calibrated)


@pytest.mark.parametrize("after", range(8))
def test_killed_after_any_record_and_taken_up(
    moderator: Moderator, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    output = tmp_path / "out.jsonl"
    append, count = Journal.append, 0

    def killed(self: Journal, record: dict[str, object]) -> None:
        nonlocal count
        if count == after:
            with self.path.open("ab") as file:
                file.write(b'{"half a li')  # what a kill leaves
            raise Crash
        append(self, record)
        count += 1

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(Crash), ModerateJob(moderator, files, output) as job:
            list(job.run())
    assert not output.exists()
    seen: list[Path] = []
    verdicts = Moderator.verdicts

    def noted(self: Moderator, sources: list[Path], batch_size: int | None) -> Iterator[Verdict]:
        seen.extend(sources)
        return verdicts(self, sources, batch_size)

    monkeypatch.setattr(Moderator, "verdicts", noted)
    with ModerateJob(moderator, files, output) as job:
        assert job.done == max(0, after - 1)
        assert [verdict.path for verdict in job.run()] == list(map(str, files))
        job.finish()
    assert seen == files[max(0, after - 1) :], "what was finished is not done again"
    assert read_verdicts(output) == list(verdicts(moderator, files))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "out.jsonl"]


def test_other_work_is_not_mixed_in(moderator: Moderator, files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with ModerateJob(moderator, files, output) as job:
        next(job.run())
        with pytest.raises(InputError, match="6 files have no verdict yet"):
            job.finish()
        with pytest.raises(OutputError, match="another process"):
            restart(output)
    other = Moderator(moderator.model, replace(moderator.policy, frames=3))
    for job_of, paths, what in ((other, files, "policy"), (moderator, files[1:], "inputs")):
        with pytest.raises(InputError, match=rf"another job \({what} changed\).*--restart"):
            ModerateJob(job_of, paths, output)
    restart(output)
    assert not partial_file(output).exists()
    restart(output)
    partial_file(output).write_text('{"job": "cooking"}\n')
    with pytest.raises(OutputError, match="left alone"):
        restart(output)


def test_verdicts_are_read_whole_or_half(moderator: Moderator, files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with ModerateJob(moderator, files, output) as job:
        first = next(job.run())
    assert read_verdicts(partial_file(output)) == [first]
    output.write_text('{"path": 1}\n')
    with pytest.raises(InputError, match=r"out\.jsonl: line 1: not a verdict"):
        read_verdicts(output)
    output.write_text(json.dumps(first.record()) + "\nhalf\n")
    with pytest.raises(InputError, match=r"out\.jsonl: line 2"):
        read_verdicts(output)
    with pytest.raises(InputError, match="cannot be read"):
        read_verdicts(tmp_path / "missing.jsonl")


def test_a_name_that_is_not_utf_8(moderator: Moderator, tmp_path: Path, demo: Path) -> None:
    odd = tmp_path / "a\udcff.jpg"
    shutil.copy(demo / "cat.jpg", odd)
    with ModerateJob(moderator, [odd], tmp_path / "out.jsonl") as job:
        list(job.run())
        job.finish()
    assert read_verdicts(tmp_path / "out.jsonl")[0].path == str(tmp_path / "a\\xff.jpg")
