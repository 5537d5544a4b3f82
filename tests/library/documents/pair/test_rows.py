"""Training rows of documents: the text as it is asked about later, questions that it answers, faults of OCR."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midsight.library.documents.layout import Word
from midsight.library.documents.pair.misread import Faults, misread
from midsight.library.documents.pair.recipe import PairRecipe
from midsight.library.documents.pair.rows import document_row, document_rows
from midsight.library.documents.prompts import free_prompt

EXACT = PairRecipe(misread=0.0, several=0.0, reworded=0.0, unread=0.0)


def question(text: str, answer: str, kind: str = "lookup") -> dict[str, Any]:
    return {"question": text, "answers": [answer, answer.lower()], "kind": kind}


def words(lines: list[str]) -> list[list[Any]]:
    return [
        [word, 100.0 * column, 20.0 * row, 100.0 * column + 9 * len(word), 20.0 * row + 12]
        for row, text in enumerate(lines)
        for column, word in enumerate(text.split())
    ]


def truth(kind: str = "invoice", lines: tuple[str, ...] = ("Total $78.90", "Due 11.06.2024")) -> dict[str, Any]:
    return {
        "id": f"{kind}-1",
        "image": "picture.png",
        "kind": kind,
        "width": 400,
        "height": 300,
        "words": words(list(lines)),
        "questions": [
            question("What is the total?", "$78.90"),
            question("When is it due?", "11.06.2024", "date"),
            question("Where is the total?", "[100,000,300,100]", "locate"),
        ],
    }


def row(document: dict[str, Any], recipe: PairRecipe = EXACT, seed: int = 0, **more: Any) -> dict[str, Any]:
    given = dict(others=[], picture=None) | more
    made = document_row(document, recipe=recipe, rng=np.random.default_rng(seed), count=len, **given)
    assert made is not None
    return made


def test_the_first_question_stands_as_it_will_be_asked() -> None:
    made = row(truth())
    asked = [turn["value"] for turn in made["conversations"][::2]]
    answers = [turn["value"] for turn in made["conversations"][1::2]]
    pairs = dict(zip(("What is the total?", "When is it due?"), ("$78.90", "11.06.2024"), strict=True))
    first = next(text for text in pairs if text in asked[0])
    assert asked[0] == free_prompt("Total | $78.90\nDue | 11.06.2024", first, sees=True)
    assert answers[0] == pairs[first]
    assert sorted(answers) == sorted(pairs.values())  # where it stands is not asked: the text does not tell


def test_a_document_with_nothing_to_ask_gives_no_row() -> None:
    bare = truth() | {"questions": [question("Where?", "[1,2,3,4]", "locate")]}
    assert document_row(bare, [], None, EXACT, np.random.default_rng(0), len) is None


def test_other_pages_are_of_other_kinds() -> None:
    others = [truth("form", ("Name Ada",)), truth("invoice", ("Total $1.00",)), truth("form", ("Name Bob",))]
    text = row(truth(), others=others)["conversations"][0]["value"]
    assert "$78.90" in text
    assert "$1.00" not in text  # "the total" would mean two
    assert ("Ada" in text) + ("Bob" in text) == 1
    assert text.count("Page ") == 2


def test_what_is_cut_off_is_not_asked_about() -> None:
    lines = ("Total $78.90", *(f"nothing here {n}" for n in range(40)), "Due 11.06.2024")
    for seed in range(8):
        made = row(truth(lines=lines), replace(EXACT, text_tokens=60), seed)
        text = made["conversations"][0]["value"]
        for place in range(2, len(made["conversations"]), 2):
            assert made["conversations"][place + 1]["value"] in text


def test_rows_and_pictures_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (800, 600), "white").save(tmp_path / "picture.png")
    lines = "".join(json.dumps(truth() | {"id": f"invoice-{n}"}) + "\n" for n in range(5))
    (tmp_path / "train.truth.jsonl").write_text(lines)
    recipe = replace(EXACT, pictured=2, side=448)
    made = list(document_rows(tmp_path, tmp_path / "rows", recipe, len))
    assert made == list(document_rows(tmp_path, tmp_path / "rows", recipe, len))
    shown = [one["image"] for one in made if "image" in one]
    assert len(made) == 5
    assert len(shown) == 2
    for name in shown:
        with Image.open(tmp_path / "rows" / name) as image:
            assert image.size == (448, 336)


@pytest.mark.parametrize("seed", range(5))
def test_faults_leave_answers_whole(seed: int) -> None:
    given = [Word(f"Solo{n}", (60.0 * n, 0, 60.0 * n + 56, 12)) for n in range(200)]
    kept = {"Solo7", "Solo150"}
    read = misread(given, kept, np.random.default_rng(seed), Faults(letter=0.3, lost=0.1, joined=0.2))
    text = " ".join(word.text for word in read)
    assert all(name in text for name in kept)
    assert 100 < len(read) < 190
    assert all(word.box[2] > word.box[0] for word in read)
    assert any("S0lo" in word.text or "5olo" in word.text or "So1o" in word.text for word in read) or "SOlo" in text


def test_words_of_other_lines_are_not_joined() -> None:
    given = [Word("a", (0, 0, 10, 12)), Word("b", (12, 40, 22, 52)), Word("c", (100, 40, 110, 52))]
    assert misread(given, (), np.random.default_rng(0), Faults(0, 0, 1.0)) == given
