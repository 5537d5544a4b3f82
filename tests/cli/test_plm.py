"""`midsight plm evaluate`, with a real tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from midsight.cli.main import app
from midsight.evaluate.language import model as answering
from midsight.evaluate.language.run import ANSWERS
from midsight.files import Journal
from tests.evaluate.language import tiny
from tests.evaluate.language.benchmarks import WRITERS, Fake


@pytest.fixture(scope="module")
def plm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("plm") / "tiny")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["plm", "evaluate", *map(str, arguments)])


def test_answers_and_report_are_written_and_a_second_run_asks_nothing(plm_folder: Path, tmp_path: Path) -> None:
    WRITERS["docvqa"](tmp_path / "data")
    command = ("docvqa", "--data", tmp_path / "data", "-m", plm_folder, "-o", tmp_path / "out", "--device", "cpu")
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "ANLS" in done.stdout
    assert f"wrote {tmp_path / 'out' / 'report.json'}" in done.stderr
    first, *answers = Journal(tmp_path / "out" / ANSWERS)
    assert first["settings"]["prompt"] == "{question}\nAnswer the question using a single word or phrase."
    assert [answer["id"] for answer in answers] == ["337", "338"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["task"], report["questions"], report["failures"]) == ("docvqa", 2, [])
    again = run(*command, "--json")
    assert again.exit_code == 0
    assert "2 of 2 answers are from an earlier run" in again.stderr
    assert json.loads(again.stdout) == report
    other = run(*command, "--split", "val", "--dtype", "bf16")
    assert other.exit_code == 2
    assert "holds answers of another run (dtype was 'auto', is 'bf16')" in other.stderr


def test_a_video_and_a_region_are_answered(plm_folder: Path, tmp_path: Path) -> None:
    WRITERS["rtloc"](tmp_path)
    done = run("rtloc", "--data", tmp_path, "-m", plm_folder, "--limit", 1, "--json", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["figures"][0]["count"] == 1


def test_missing_and_broken_media_are_told_and_count_as_wrong(plm_folder: Path, tmp_path: Path) -> None:
    WRITERS["docvqa"](tmp_path)
    (tmp_path / "documents" / "b_2.png").unlink()
    (tmp_path / "spdocvqa_images" / "a_1.png").write_bytes(b"broken")
    done = run("docvqa", "--data", tmp_path, "-m", plm_folder, "--json", "--device", "cpu")
    assert done.exit_code == 1
    assert "missing: 1 of 2 files; questions about them count as wrong" in done.stderr
    assert done.stderr.count("b_2.png") == 1
    assert "a_1.png" in done.stderr
    assert "2 of 2 could not be read" in done.stderr
    report = json.loads(done.stdout)
    assert report["figures"][0]["value"] == 0
    assert [failure["id"] for failure in report["failures"]] == ["337", "338"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("docvq", "Did you mean docvqa"),
        ("chartqa", "has no list of questions; expected test_human.json"),
        ("docvqa", "none of the pictures or videos is there"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(task: str, message: str, tmp_path: Path) -> None:
    WRITERS["docvqa"](tmp_path)
    (tmp_path / "documents" / "b_2.png").unlink()
    (tmp_path / "spdocvqa_images" / "a_1.png").unlink()
    done = run(task, "--data", tmp_path, "-m", tmp_path / "none")
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    WRITERS["chartqa"](tmp_path)
    done = run("chartqa", "--data", tmp_path, "-m", tmp_path / "none")
    assert done.exit_code == 2
    assert "there is no such folder" in done.stderr


def test_ctrl_c_keeps_what_was_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Fake):
        def answer(self, media: Any, question: str) -> str:
            if len(self.asked) == 1:
                raise KeyboardInterrupt
            return super().answer(media, question)

    WRITERS["chartqa"](tmp_path / "data")
    command = ("chartqa", "--data", tmp_path / "data", "-m", "any", "-o", tmp_path / "out")
    monkeypatch.setattr(answering, "open_answerer", lambda *_, **__: Stopped(["10"]))
    done = run(*command)
    assert done.exit_code == 130
    assert f"stopped: 1 of 3 questions are answered and kept in {tmp_path / 'out'}" in done.stderr
    monkeypatch.setattr(answering, "open_answerer", lambda *_, **__: Fake(["Blue", "0.57"]))
    done = run(*command, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["figures"][0]["value"] == pytest.approx(100)
