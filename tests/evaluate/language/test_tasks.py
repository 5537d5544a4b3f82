"""Readers of the published layouts, prompts, and figures of perfect and useless answers."""

import json
from pathlib import Path

import pytest

from midsight.errors import InputError
from midsight.evaluate.language.question import Question
from midsight.evaluate.language.report import figures
from midsight.evaluate.language.run import Answer
from midsight.evaluate.language.tasks import TASKS, get_task
from tests.evaluate.language.benchmarks import WRITERS, as_json, as_lines, picture

IDS = {
    "docvqa": ["337", "338"],
    "infographicvqa": ["1"],
    "chartqa": ["human-0", "human-1", "augmented-0"],
    "textvqa": ["34602"],
    "vqav2": ["262148000", "262148001"],
    "ai2d": ["0.png-0", "0.png-1"],
    "mvbench": ["action_antonym-0", "moving_direction-0"],
    "perceptiontest": ["video_1-3", "video_1-4"],
    "refcoco": ["0"],
    "coco": ["1", "2"],
    "fgqa": ["7", "8", "9"],
    "rtloc": ["5", "6"],
    "rcap": ["5", "6"],
}
PROMPTS = {
    "docvqa": "what is the date?\nAnswer the question using a single word or phrase.",
    "chartqa": "how many?\nAnswer the question with a single word.",
    "textvqa": "What is the brand?\nProvide a short and direct response.",
    "ai2d": "Which one?\nA. ears\nB. nose\nC. mouth\nAnswer with the option's letter from the given choices directly.",
    "mvbench": "Question:Which way?\nOption:\n(A) left\n(B) right\nOnly give the best option.\n",
    "coco": "Describe the image briefly.",
    "fgqa": "Question: Which hand?\nOptions:\n(A) left\n(B) right\nOnly give the best option.",
    "rtloc": "Given the region marked by the red rectangle in the video, please provide the start and end frame of "
    "when 'A man runs' happens. Use the format [start, end] where start and end are frame numbers between 0 and 31 in "
    "this 32 frame video.",
    "rcap": "Give a detailed description of the events occurring in the region marked by the red rectangle within "
    "frames [8, 16] in this 40 frame video.",
}


def measured(task: str, questions: list[Question], answers: list[str | None]) -> dict[str, float]:
    """Figures by name, in percent."""
    given = [Answer(question, answer) for question, answer in zip(questions, answers, strict=True)]
    return {figure.name: figure.value for figure in figures(TASKS[task], given)}


@pytest.mark.parametrize("name", WRITERS)
def test_a_benchmark_is_read_in_order_and_perfect_answers_are_perfect(name: str, tmp_path: Path) -> None:
    perfect = WRITERS[name](tmp_path)
    questions = TASKS[name].questions(tmp_path)
    assert [question.id for question in questions] == IDS[name]
    assert not any(question.missing for question in questions)
    if name in PROMPTS:
        assert questions[0].prompt == PROMPTS[name]
    best = next(iter(measured(name, questions, perfect).values()))
    nothing = next(iter(measured(name, questions, [None] * len(questions)).values()))
    assert nothing == 0
    if TASKS[name].measure.__name__ == "captions":
        assert best > 300
    else:
        assert best == pytest.approx(100)
    assert next(iter(measured(name, questions, ["?"] * len(questions)).values())) == 0


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("docvqa", ["1/8/93", "Smith"], {"ANLS": 100 * (1 + 5 / 9) / 2}),
        (
            "chartqa",
            ["10", "green", "5"],
            {
                "relaxed accuracy": 100 / 3,
                "relaxed accuracy, human": 50,
                "relaxed accuracy, augmented": 0,
            },
        ),
        ("textvqa", ["nous"], {"VQA accuracy": 100}),  # four of ten
        ("fgqa", ["A", "A", "A"], {"multi-binary accuracy": 50, "accuracy of pairs": 200 / 3}),
        ("mvbench", ["A", "A"], {"accuracy": 50, "accuracy, action_antonym": 100, "accuracy, moving_direction": 0}),
        ("refcoco", ["[000,000,500,999]"], {"accuracy at IoU 0.5": 0}),
        (
            "rtloc",
            ["[8, 14]", "3-4"],
            {
                "mean recall@1": 100 * 3 / 8,
                "recall@1, IoU 0.3": 50,
                "recall@1, IoU 0.5": 50,
                "recall@1, IoU 0.7": 50,
                "recall@1, IoU 0.9": 0,
            },
        ),
    ],
)
def test_figures_of_mixed_answers(name: str, answers: list[str], expected: dict[str, float], tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    assert measured(name, TASKS[name].questions(tmp_path), list(answers)) == pytest.approx(expected)


def test_only_the_first_questions_where_there_is_a_limit(tmp_path: Path) -> None:
    WRITERS["chartqa"](tmp_path)
    assert [question.id for question in TASKS["chartqa"].questions(tmp_path, limit=2)] == IDS["chartqa"][:2]


def test_media_that_are_not_there_are_named(tmp_path: Path) -> None:
    WRITERS["docvqa"](tmp_path)
    (tmp_path / "documents" / "b_2.png").unlink()
    first, second = TASKS["docvqa"].questions(tmp_path)
    assert (first.missing, second.missing) == ((), (tmp_path / "documents" / "b_2.png",))


def test_karpathys_splits_go_before_all_captions(tmp_path: Path) -> None:
    WRITERS["coco"](tmp_path)
    rows = [
        dict(filename="COCO_val2014_2.jpg", split=split, cocoid=number, sentences=[dict(raw=f"text {split}")])
        for number, split in enumerate(("train", "val", "test"))
    ]
    as_json(tmp_path / "dataset_coco.json", {"images": rows})
    assert [(q.id, q.answers) for q in TASKS["coco"].questions(tmp_path)] == [("1", ("text val",))]
    assert [q.id for q in TASKS["coco"].questions(tmp_path, "test")] == ["2"]
    with pytest.raises(InputError, match="no pictures of the split 'dev'"):
        TASKS["coco"].questions(tmp_path, "dev")


def test_ai2d_as_lines_and_only_its_test_pictures(tmp_path: Path) -> None:
    WRITERS["ai2d"](tmp_path)
    (tmp_path / "ai2d_test_ids.csv").write_text("1\n7\n")
    with pytest.raises(InputError, match="no questions"):
        TASKS["ai2d"].questions(tmp_path)
    lines = tmp_path / "lines"
    as_lines(lines / "test.jsonl", [dict(image="0.png", question="Which?", options=["x", "y"], answer="1")])
    picture(lines / "images" / "0.png")
    (question,) = TASKS["ai2d"].questions(lines)
    assert (question.answers, question.missing) == (("y",), ())


def test_perception_test_as_a_list_of_rows(tmp_path: Path) -> None:
    WRITERS["perceptiontest"](tmp_path)
    row = dict(video_name="video_1", question="Where?", question_id="9", options=["a", "b", "c"], answer_id="1")
    as_json(tmp_path / "mc_question_val.json", [row])
    (question,) = TASKS["perceptiontest"].questions(tmp_path)
    assert (question.id, question.answers) == ("video_1-9", ("b",))


def test_refcoco_plus_has_lists_of_its_own(tmp_path: Path) -> None:
    WRITERS["refcoco"](tmp_path)
    (tmp_path / "refcoco_val.jsonl").rename(tmp_path / "refcoco+_testA.jsonl")
    assert len(TASKS["refcoco+"].questions(tmp_path, "testA")) == 1
    with pytest.raises(InputError, match=r"expected refcoco_testA\.jsonl"):
        TASKS["refcoco"].questions(tmp_path, "testA")


def edited(path: Path, change: str, by: str) -> None:
    text = path.read_text()
    assert change in text
    path.write_text(text.replace(change, by))


@pytest.mark.parametrize(
    ("name", "file", "change", "by", "message"),
    [
        (
            "docvqa",
            "spdocvqa_qas/val_v1.0_withQT.json",
            '"answers"',
            '"x"',
            "entry 0 has no 'answers', expected a list",
        ),
        ("docvqa", "spdocvqa_qas/val_v1.0_withQT.json", '"data"', '"rows"', "has no list 'data'"),
        ("docvqa", "spdocvqa_qas/val_v1.0_withQT.json", "]}", "", "is no JSON"),
        ("docvqa", "spdocvqa_qas/val_v1.0_withQT.json", "338", "337", "two questions have the id 337"),
        ("docvqa", "spdocvqa_qas/val_v1.0_withQT.json", "documents/a_1", "../a_1", "without '..'"),
        ("chartqa", "test/test_human.json", '"10"', "null", "entry 0 has None as 'label', expected a text or a number"),
        ("vqav2", "v2_mscoco_val2014_annotations.json", "262148001,", "5,", "no answers to question 262148001"),
        (
            "ai2d",
            "questions/0.png.json",
            '"correctAnswer": 1',
            '"correctAnswer": 3',
            "has answer 3, but options 0 to 2",
        ),
        (
            "mvbench",
            "json/moving_direction.json",
            '"left"',
            ", ".join(['"left"'] * 26),
            "has 27 options, expected at most 26",
        ),
        ("mvbench", "json/moving_direction.json", '"answer": "right"', '"answer": "up"', "'up', which is none of"),
        ("perceptiontest", "mc_question_val.json", '"answer_id": 2', '"answer_id": "?"', r"has answer '\?'"),
        ("refcoco", "refcoco_val.jsonl", "[10, 15, 30, 30]", "[10, 15, 30]", "entry 0 has the box"),
        (
            "fgqa",
            "fgqa/plm_fgqa_test.jsonl",
            '"answer_index": 1',
            '"answer_index": 2',
            "has answer 2, but options 0 to 1",
        ),
        ("fgqa", "fgqa/plm_fgqa_test.jsonl", '"uid": "9"', '"uid": ', "line 3 is no JSON"),
        ("rtloc", "metadata/metadata_test.jsonl", '"masklet_id": 2', '"masklet_id": 3', "is not in the metadata"),
        ("rtloc", "metadata/metadata_test.jsonl", "[10, 12, 30, 40]", "[10, 12]", "a box of sav_1.mp4"),
    ],
)
def test_what_is_wrong_in_a_list_is_said(
    name: str, file: str, change: str, by: str, message: str, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    edited(tmp_path / file, change, by)
    with pytest.raises(InputError, match=message):
        TASKS[name].questions(tmp_path)


def test_every_prompt_tells_its_source() -> None:
    assert {task.prompt.source for task in TASKS.values()} == {"lmms-eval", "lmms-eval, its text for plm", "our choice"}
    assert [name for name, task in TASKS.items() if task.prompt.source == "our choice"] == [
        "refcoco",
        "refcoco+",
        "refcocog",
    ]


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_without_the_benchmark_is_told_with_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no list of questions; expected"):
        TASKS[name].questions(tmp_path)


def test_a_folder_must_be_there_and_hold_one_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        TASKS["docvqa"].questions(tmp_path / "none")
    WRITERS["docvqa"](tmp_path)
    (tmp_path / "spdocvqa_qas" / "val_v1.0.json").write_text(json.dumps({"data": []}))
    with pytest.raises(InputError, match="several files fit"):
        TASKS["docvqa"].questions(tmp_path)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean docvqa"):
        get_task("DocVQ")
    with pytest.raises(InputError, match="There are docvqa, infographicvqa"):
        get_task("qqqq")
