"""What the measure of documents counts."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import documents


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
