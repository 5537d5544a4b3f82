"""Which questions about a picture are understood, and which are left alone."""

import csv
from pathlib import Path

import pytest

from midsight.library.documents.asked import Asked, understand


@pytest.mark.parametrize(
    "question",
    [
        "What is this?", "What's in the photo?", "What is in this picture? Answer with a word.", "What are these",
        "What does the picture show?", "what can be seen in the image?", "Describe this picture.",
        "What do you see here?",
    ],
)  # fmt: skip
def test_questions_for_a_name(question: str) -> None:
    assert understand(question) == Asked("name")


def test_questions_for_the_name_of_a_kind() -> None:
    assert understand("What animal is this?") == Asked("name", ("animal",))
    assert understand("Which kind of bird is it?") == Asked("name", ("bird",))
    assert understand("What musical instruments are shown in the video?") == Asked("name", ("musical instrument",))


@pytest.mark.parametrize(
    ("question", "things"),
    [
        ("Is there a dog?", ("dog",)),
        ("Is there a dog in the picture? Answer yes or no.", ("dog",)),
        ("Are there any cows here?", ("cows",)),
        ("Is this a traffic light or not?", ("traffic light",)),
        ("Is a dog visible in this photo?", ("dog",)),
        ("Can you see an owl?", ("owl",)),
        ("Does the video show a bridge?", ("bridge",)),
        ("Is it a picture of a cat?", ("cat",)),
        ("Is it a cat or a dog?", ("cat", "dog")),
        ("Is this a cat, a guinea pig, or a horse?", ("cat", "guinea pig", "horse")),
        ("Which animal is this: cat or dog?", ("cat", "dog")),
        ("What is it, a cup or a bowl?", ("cup", "bowl")),
    ],
)
def test_questions_about_things(question: str, things: tuple[str, ...]) -> None:
    assert understand(question) == Asked("choice" if len(things) > 1 else "yes_no", things)


@pytest.mark.parametrize(
    "question",
    [
        "What?", "How many dogs are there?", "What colour is the car?", "What time is it?", "Is it red?",
        "Is it a red car?", "Is there a dog on a sofa?", "Are there two dogs?", "Is there a person?", "Who is this?",
        "Where is the cat?", "Is there a dog running?", "Is it a dog or a dog?", "Is there no dog?",
        "Which is it: dog?",
        "What is the total?", "Is the total above $50?", "What is the title?", "Is there 'a'; drop table?", "", "?",
        "What number is this?", "Is there a very big brown old dog?",
    ],
)  # fmt: skip
def test_other_questions_are_not_understood(question: str) -> None:
    assert understand(question) is None


def test_questions_about_documents_are_not_taken_for_ones_about_pictures() -> None:
    with (Path(__file__).parents[3] / "benchmarks" / "document_pages.csv").open(newline="") as file:
        asked = [row["question"] for row in csv.DictReader(file)]
    assert len(asked) > 20
    assert [question for question in asked if understand(question)] == []
