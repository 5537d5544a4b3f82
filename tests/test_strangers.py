"""Pages that somebody wrote by hand, their questions, and what the benchmark makes of both."""

import html
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import strangers
from benchmarks.documents import Example
from tests.browser import find_chromium

QUESTIONS = [json.loads(line) for line in (strangers.FOLDER / "questions.jsonl").read_text().splitlines()]
PAGES = sorted(path.name for path in strangers.FOLDER.glob("*.html"))
KINDS = {"amount", "when", "name", "number", "text", "extreme", "yes_no", "count"}
NOT_PRINTED = {"yes_no", "count"}  # may be answered with a word that the page does not have


def visible(name: str) -> str:
    """The words of a page, in the order of its source, one space between them."""
    source = (strangers.FOLDER / name).read_text()
    body = re.sub(r"(?s)<(head|style)>.*?</\1>", " ", source)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def example(*answers: str) -> Example:
    return Example("page.png", "page", "amount", "How much?", answers, ())


def test_every_page_has_four_questions_of_one_part_and_a_way_to_render_it() -> None:
    assert Counter(row["page"] for row in QUESTIONS) == dict.fromkeys(PAGES, 4)
    assert sorted(strangers.read_renders()) == PAGES
    assert len({(row["page"], row["part"]) for row in QUESTIONS}) == len(PAGES)
    assert Counter(row["part"] for row in QUESTIONS) == {"choose": 176, "kept": 96}
    for part in strangers.PARTS:  # every kind of question, and every damage, on both sides
        pages = {row["page"] for row in QUESTIONS if row["part"] == part}
        assert {row["kind"] for row in QUESTIONS if row["part"] == part} == KINDS
        assert {strangers.read_renders()[page].damage for page in pages} == set(strangers.DAMAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_its_answers(name: str) -> None:
    text = visible(name)
    for row in (row for row in QUESTIONS if row["page"] == name):
        assert row["answers"]
        stands = any(strangers.stands_in(text, " ".join(form.split())) for form in row["answers"])
        assert stands or row["kind"] in NOT_PRINTED, row
        assert row["kind"] != "yes_no" or row["answers"] in (["yes"], ["no"])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_brings_everything_with_it(name: str) -> None:
    source = (strangers.FOLDER / name).read_text().lower()
    assert not re.search(
        r"<script|<link|<iframe|<img|<object|\bon\w+=|\bsrc=|href=|url\(|@import|https?:|file:", source
    )


def test_a_scan_is_the_same_each_time_and_differs_from_its_page() -> None:
    page = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    for damage in strangers.DAMAGES:
        scans = [np.asarray(strangers.damaged(page, damage, "a.html")) for _ in range(2)]
        assert np.array_equal(*scans)
        same = scans[0].shape == (60, 80, 3) and np.array_equal(scans[0], np.asarray(page))
        assert same == (damage == "none")
    with pytest.raises(ValueError, match="'crumpled' is not one of none"):
        strangers.Render(100, 1.0, "crumpled")


def test_an_answer_is_held_as_whole_words_only() -> None:
    assert strangers.score("It is $43.00.", example("43.00")).held
    assert not strangers.score("13 items", example("3")).held
    assert not strangers.score("3.50 or 1.3", example("3")).held
    assert strangers.score("3, not 4", example("3")).held
    assert not strangers.score("not stated", example("no")).held
    assert strangers.score("$43.00.", example("43.00", "$43.00")).anls == 1.0


def test_the_interval_draws_whole_pages() -> None:
    alike = [(page, float(page == "a")) for page in "ab" for _ in range(50)]
    assert strangers.interval(alike) == (0.0, 1.0)  # of two pages, both draws are often the same
    low, high = strangers.interval([(str(number), float(number % 2)) for number in range(100)])
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65


def test_answers_are_kept_and_those_of_the_part_that_only_measures_are_not(tmp_path: Path) -> None:
    asked = [Example("page.png", "page", "amount", "How much?", ("$3",), ())]
    ways = {"a way": lambda _: "about $3", "a broken way": lambda _: 1 / 0}
    for part in strangers.PARTS:
        table = strangers.measure_part(part, asked, ways, tmp_path)
        assert "| a way | 0.000 (0.000-0.000) | 1.000 (1.000-1.000) | amount 0.00 (1) |" in table
        assert f"Part {part}: 1 questions about 1 pages." in table
    kept, choose = (json.loads((tmp_path / f"answers_{part}.jsonl").read_text()) for part in ("kept", "choose"))
    assert kept == {
        "page": "page",
        "ways": {"a way": {"anls": 0.0, "held": True}, "a broken way": {"anls": 0.0, "held": False}},
    }
    assert choose["ways"]["a way"] == {"answer": "about $3", "anls": 0.0, "held": True}
    assert choose["accepted"] == ["$3"]


def test_a_part_that_there_is_not_is_told_before_anything_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part 'all' is not one of choose, kept"):
        strangers.measure(tmp_path, ["all"])
    assert not list(tmp_path.iterdir())


def test_a_page_is_rendered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_chromium()
    monkeypatch.setattr(strangers, "fonts", lambda work: Path("/etc/fonts/fonts.conf"))  # nothing is downloaded
    page = tmp_path / "tall.html"
    bands = "".join(
        f"<div style='height:{high}px;background:{hue}'></div>" for high, hue in ((1700, "blue"), (100, "red"))
    )
    page.write_text(f"<!DOCTYPE html><body style='margin:0'>{bands}")
    with strangers.browser(tmp_path) as driver:
        image = strangers.screenshot(driver, page, strangers.Render(300, 1.5))
    assert image.size == (450, 2700)
    assert [image.getpixel((225, y)) for y in (10, 2690)] == [(0, 0, 255), (255, 0, 0)]
