"""What the measure of documents counts."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import documents, photographs


@pytest.mark.parametrize(
    ("answer", "accepted", "score"),
    [
        ("4711", ["4711"], 1.0),
        ("GARDEN hose ", ["lamp", "Garden hose"], 1.0),
        ("garden house", ["garden hose"], 11 / 12),
        ("garden", ["garden hose"], 6 / 11),
        ("hose", ["garden hose"], 0.0),  # below the threshold
        ("", ["4711"], 0.0),
    ],
)
def test_anls(answer: str, accepted: list[str], score: float) -> None:
    assert documents.anls(answer, accepted) == pytest.approx(score)


def test_examples_of_a_build(tmp_path: Path) -> None:
    def question(kind: str, text: str) -> dict[str, object]:
        return {"question": text, "answers": ["x"], "kind": kind, "evidence": {"f": [[1, 2, 3, 4]]}}

    asked = [question("date", "When?"), question("locate", "Where?")]
    rows = [
        {"image": "a.png", "kind": "invoice", "layout": "band", "questions": asked},
        {"image": "b.png", "kind": "chart", "layout": "bars", "questions": [question("date", "Which year?")]},
    ]
    (tmp_path / "part.truth.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (example,) = documents.read_examples(tmp_path, "part", 60)
    assert (example.question, example.boxes, example.picture) == ("When?", ((1, 2, 3, 4),), str(tmp_path / "a.png"))


def test_questions_about_the_manuals_name_pages() -> None:
    with open(documents.QUESTIONS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["manual"] for row in rows} == set(documents.MANUALS)
    assert all(int(row["page"]) > 0 and row["question"].endswith("?") for row in rows)
    assert len(rows) >= 25


@pytest.mark.parametrize(
    ("kind", "answer", "right"),
    [
        ("what", "A picture of two toads.", True),
        ("what", "toadstool", False),
        ("what", "an amphibian", False),
        ("yes_no", "Yes, there is.", True),
        ("yes_no", "No", False),
        ("yes_no", "", False),
        ("choice", "It is a toad", True),
        ("choice", "a toad or a cat", False),
        ("choice", "cat", False),
    ],
)
def test_answers_about_photographs(kind: str, answer: str, right: bool) -> None:
    accepted = frozenset(("yes",)) if kind == "yes_no" else frozenset(("toad", "tree frog"))
    options = ("toad", "cat") if kind == "choice" else ()
    question = photographs.Question(0, "toad", kind, "?", accepted, frozenset(("amphibian",)), options)
    assert photographs.is_right(question, answer) == right
    assert photographs.is_right(question, answer, broader=True) == (right or answer == "an amphibian")


def test_composed_pictures_show_what_is_asked(tmp_path: Path) -> None:
    ball = np.asarray(photographs._ball("red", random.Random(0)))
    assert (ball == photographs.COLOURS["red"]).all(-1).mean() > 0.05
    Image.new("RGBA", (60, 60), "black").save(tmp_path / "thing.png")
    areas = [(np.asarray(photographs._several(tmp_path / "thing.png", n)) == 0).all(-1).sum() for n in range(1, 5)]
    assert [area / areas[0] for area in areas] == [1, 2, 3, 4]
