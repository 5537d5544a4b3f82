"""Asking all questions: journal, going on after a kill, failures, marked regions, the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.errors import InputError, MediaError, OutputError
from midsight.evaluate.language.question import Question
from midsight.evaluate.language.regions import mark_frames
from midsight.evaluate.language.report import figures, record, write_report
from midsight.evaluate.language.run import ANSWERS, ask_all
from midsight.evaluate.language.tasks import TASKS
from midsight.files import Journal
from midsight.video import sample_frames
from tests.evaluate.language.benchmarks import WRITERS, Fake, video

SETTINGS = {"task": "chartqa", "model": "a"}


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    WRITERS["chartqa"](tmp_path / "data")
    return TASKS["chartqa"].questions(tmp_path / "data")


def test_answers_come_in_order_and_are_kept_at_once(questions: list[Question], tmp_path: Path) -> None:
    model = Fake(["10", "Blue", "0.57"])
    texts = []
    for answer in ask_all(questions, model, tmp_path / "out", SETTINGS):
        texts.append(answer.text)
        kept = list(Journal(tmp_path / "out" / ANSWERS))
        assert kept == [{"settings": SETTINGS}, *({"id": q.id, "answer": t} for q, t in zip(questions, texts))]  # noqa: B905
    assert texts == ["10", "Blue", "0.57"]
    assert model.asked == [(question.media, question.prompt) for question in questions]


@pytest.mark.parametrize("torn", ["", '{"id": "human-1", "ans'])
def test_a_stopped_run_goes_on_where_it_was(questions: list[Question], tmp_path: Path, torn: str) -> None:
    next(ask_all(questions, Fake(["10"]), tmp_path / "out", SETTINGS))
    with open(tmp_path / "out" / ANSWERS, "a") as file:
        file.write(torn)
    model = Fake(["green", "0.57"])
    answers = list(ask_all(questions, model, tmp_path / "out", SETTINGS))
    assert [(answer.text, answer.before) for answer in answers] == [("10", True), ("green", False), ("0.57", False)]
    assert len(model.asked) == 2
    again = Fake([])
    assert [answer.text for answer in ask_all(questions, again, tmp_path / "out", SETTINGS)] == ["10", "green", "0.57"]
    assert not again.asked


def test_questions_that_failed_are_asked_again(questions: list[Question], tmp_path: Path) -> None:
    whole = questions[0].media[0].read_bytes()
    questions[0].media[0].write_bytes(b"broken")
    questions[2].media[0].unlink()
    answers = list(ask_all(questions, Fake([]), tmp_path / "out", SETTINGS))
    assert [answer.text for answer in answers] == [None] * 3
    assert [answer.error for answer in answers] == [
        f"{questions[0].media[0]}: is no picture",
        f"{questions[1].media[0]}: is no picture",
        f"{questions[2].media[0]}: there is no such file",
    ]
    questions[0].media[0].write_bytes(whole)
    answers = list(ask_all(questions, Fake(["10", "Blue"]), tmp_path / "out", SETTINGS))
    assert [answer.text for answer in answers] == ["10", "Blue", None]
    found = figures(TASKS["chartqa"], answers)
    assert [figure.value for figure in found] == pytest.approx([200 / 3, 100, 0])
    assert [failure["id"] for failure in record(found, answers, {})["failures"]] == ["augmented-0"]


def test_other_errors_are_not_taken_for_wrong_answers(questions: list[Question], tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        list(ask_all(questions, Fake([]), tmp_path / "out", SETTINGS))


def test_a_journal_of_another_run_is_refused(questions: list[Question], tmp_path: Path) -> None:
    list(ask_all(questions, Fake(["1", "2", "3"]), tmp_path / "out", SETTINGS))
    with pytest.raises(InputError, match=r"holds answers of another run \(model was 'a', is 'b'\)"):
        next(ask_all(questions, Fake(["1"]), tmp_path / "out", SETTINGS | {"model": "b"}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ANSWERS).write_text('{"path": "x"}\n')
    with pytest.raises(InputError, match="is no journal of an evaluation"):
        next(ask_all(questions, Fake(["1"]), tmp_path / "other", SETTINGS))


def test_two_runs_do_not_write_one_journal(questions: list[Question], tmp_path: Path) -> None:
    running = ask_all(questions, Fake(["1", "2", "3"]), tmp_path / "out", SETTINGS)
    next(running)
    second = ask_all(questions, Fake(["1", "2", "3"]), tmp_path / "out", SETTINGS)
    next(second)  # known already
    with pytest.raises(OutputError, match="another process is writing"):
        next(second)
    running.close()


def test_nothing_is_kept_without_a_folder(questions: list[Question], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert len(list(ask_all(questions, Fake(["1", "2", "3"])))) == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_a_region_is_marked_on_the_frames_that_the_model_sees(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4")
    frames = mark_frames(tmp_path / "v.mp4", {0: (10, 12, 30, 40), 39: (0, 0, 5, 5), 2: (1, 1, 9, 9)}, tmp_path, 8)
    plain = sample_frames(tmp_path / "v.mp4", 40).frames[[round(i * 39 / 7) for i in range(8)]]
    found = np.stack([np.asarray(Image.open(path)) for path in frames])
    assert found.shape == plain.shape == (8, 48, 64, 3)
    np.testing.assert_array_equal(found[1:7], plain[1:7])
    changed = (found[0] != plain[0]).any(-1)
    line = np.zeros((48, 64), bool)
    line[12:41, 10:31] = True
    line[16:37, 14:27] = False  # four pixels inwards
    np.testing.assert_array_equal(changed, line)
    assert (found[0][line] == (255, 0, 0)).all()
    assert (found[7] != plain[7]).any()


def test_a_model_gets_marked_frames_and_a_broken_video_is_a_failure(tmp_path: Path) -> None:
    WRITERS["rtloc"](tmp_path)
    questions = TASKS["rtloc"].questions(tmp_path)
    model = Fake(["[8, 16]", "[16, 24]"])
    assert [answer.text for answer in ask_all(questions, model)] == model.answers
    assert [(len(media), media[0].suffix) for media, _ in model.asked] == [(32, ".png")] * 2
    assert not model.asked[0][0][0].exists()
    questions[0].media[0].write_bytes(b"broken")
    (first, *_) = ask_all(questions, model)
    assert first.text is None
    assert "sav_1.mp4" in str(first.error)
    with pytest.raises(MediaError):
        mark_frames(questions[0].media[0], {}, tmp_path)


def test_the_report_holds_figures_settings_and_failures(questions: list[Question], tmp_path: Path) -> None:
    answers = list(ask_all(questions, Fake(["10", "green", "0.57"])))
    found = figures(TASKS["chartqa"], answers)
    assert (found[0].name, found[0].count) == ("relaxed accuracy", 3)
    assert 0 <= found[0].low < found[0].value < found[0].high <= 100
    path = write_report(tmp_path, record(found, answers, SETTINGS))
    report = json.loads(path.read_text())
    assert report["task"] == "chartqa"
    assert report["questions"] == 3
    assert report["figures"][0]["value"] == pytest.approx(200 / 3)
    assert report["mean_answer_length"] == 11 / 3
    assert report["failures"] == []
    with pytest.raises(InputError, match="no questions"):
        figures(TASKS["chartqa"], [])
